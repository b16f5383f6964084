"use strict";
(() => {
  // Folded sections are printed too, except for answers and recipes, which may be pages long.
  const folded = [...document.querySelectorAll("details:not(#more):not(.more):not(.seeds):not(.advised):not(.columns)")];
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = folded.filter((details) => !details.open);
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });

  // If the clipboard is not writable, select the text for copying by keyboard.
  for (const button of document.querySelectorAll(".copy")) {
    const text = document.getElementById(button.dataset.copies);
    const copy = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = button.dataset.copied;
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = button.dataset.selected;
      }
      setTimeout(() => (button.textContent = copy), 2000);
    });
  }

  const tools = document.querySelector(".tools");
  if (!tools) return;
  const rows = [...document.querySelectorAll("#answers .row")];
  const more = document.getElementById("more");
  const [search, which, jump, count] = ["search-rows", "which", "jump", "count"].map((id) => document.getElementById(id));
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const isWanted = (row) => {
    const changed = row.dataset.changed.trim().split(" ").filter(Boolean);
    if (which.value === "any") return changed.length > 0;
    if (which.value === "none") return changed.length === 0;
    return which.value === "" || changed.includes(which.value);
  };
  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    const isFiltered = wanted !== "" || which.value !== "";
    let number = 0;
    for (const row of rows) {
      row.hidden = !(isWanted(row) && (wanted === "" || textOf(row).includes(wanted)));
      if (!row.hidden) number += 1;
    }
    if (more && isFiltered) more.open = true;
    const [found, all] = [number, rows.length].map((each) => each.toLocaleString("en"));
    count.textContent = isFiltered ? count.dataset.text.replace("{found}", found).replace("{all}", all) : "";
  };
  const reveal = (row) => {
    if (!row) return;
    if (more && more.contains(row)) more.open = true;
    row.hidden = false;
    row.scrollIntoView({ block: "start", inline: "nearest" });
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 120);
  });
  which.addEventListener("change", show);
  jump.addEventListener("change", () => {
    if (document.getElementById(`row-${jump.value}`)) location.hash = `row-${jump.value}`;
  });
  for (const box of tools.querySelectorAll(".columns input")) {
    box.addEventListener("change", () => {
      for (const cell of document.querySelectorAll(`#answers [data-column="${box.value}"]`)) cell.hidden = !box.checked;
    });
    box.checked = true; // a browser restores the boxes but not the columns that they hid
  }
  tools.addEventListener("submit", (event) => event.preventDefault());
  const follow = () => {
    if (/^#row-\d+$/.test(location.hash)) reveal(document.getElementById(location.hash.slice(1)));
  };
  addEventListener("hashchange", follow);
  tools.hidden = false;
  follow();
})();
