// Figures that say where they come from: one stop of the Tab key a table, arrow keys within it, and Escape puts the words away.
addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table")) {
    [...table.querySelectorAll(".origin")].forEach((figure, i) => (figure.tabIndex = i ? -1 : 0));
  }
});

addEventListener("keydown", (event) => {
  const figure = event.target.closest?.(".origin");
  if (figure && event.key === "Escape") document.activeElement.blur();
  if (figure !== event.target) return;
  const next = beside(figure, event.key);
  if (!next) return;
  event.preventDefault();
  [figure.tabIndex, next.tabIndex] = [-1, 0];
  next.focus();
});

/** The figure that an arrow key leads to: along the row, or in the same column of the next row that has one there. */
function beside(figure, key) {
  const table = figure.closest("table");
  const all = table ? [...table.querySelectorAll(".origin")] : [];
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) return all[all.indexOf(figure) + step];
  const column = (one) => one.closest("td, th")?.cellIndex;
  const alike = all.filter((one) => column(one) === column(figure));
  const turn = { ArrowUp: -1, ArrowDown: 1 }[key];
  return turn && alike[alike.indexOf(figure) + turn];
}
