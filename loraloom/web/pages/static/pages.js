"use strict";
(() => {
  // What can be scrolled can be reached with the keyboard.
  const reach = () => {
    for (const box of document.querySelectorAll(".scroll, pre, .data, .legend")) {
      const isLarger = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      if (isLarger) box.tabIndex = 0;
    }
  };
  reach();
  addEventListener("resize", reach);
  document.addEventListener("htmx:afterSettle", reach);
  document.addEventListener("toggle", reach, true);

  // The recipe has one row a line, so that what is said of a line stands beside it.
  const recipe = document.querySelector("textarea#recipe");
  if (recipe) {
    const fit = () => { recipe.rows = recipe.value.split("\n").length + 1; };
    recipe.addEventListener("input", fit);
    fit();
  }
})();
