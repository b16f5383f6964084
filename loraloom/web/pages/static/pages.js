"use strict";
(() => {
  // A run that ends while its page is open: the page is read again, with its buttons for what comes next.
  document.addEventListener("htmx:sseClose", (event) => {
    if (event.detail.type === "message") setTimeout(() => location.reload(), 300);
  });
})();
