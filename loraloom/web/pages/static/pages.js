"use strict";
(() => {
  // A run that ends while its page is open: the page is read again, with its buttons for what comes next.
  document.addEventListener("htmx:sseClose", (event) => {
    if (event.detail.type === "message" && event.target.hasAttribute("data-reload")) {
      setTimeout(() => location.reload(), 300);
    }
  });

  // The recipe has one row a line, so that what is said of a line stands beside it.
  const recipe = document.getElementById("recipe");
  if (recipe) {
    const fit = () => { recipe.rows = recipe.value.split("\n").length + 1; };
    recipe.addEventListener("input", fit);
    fit();
  }
})();
