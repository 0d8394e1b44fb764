// Tables of claims are sorted by the column whose heading is chosen; a second time, the other way.
for (const heading of document.querySelectorAll("table.claims thead button")) {
  heading.addEventListener("click", () => {
    const column = heading.closest("th"), body = column.closest("table").tBodies[0], place = column.cellIndex;
    const downwards = column.getAttribute("aria-sort") === "ascending";
    for (const other of column.parentNode.cells) other.removeAttribute("aria-sort");
    column.setAttribute("aria-sort", downwards ? "descending" : "ascending");
    const value = (row) => row.cells[place].textContent.trim();
    const number = (text) => parseFloat(text.replace(/^[^\d.-]*/, ""));
    const before = (a, b) => {
      const [x, y] = [number(value(a)), number(value(b))];
      return Number.isNaN(x - y) || column.dataset.words ? value(a).localeCompare(value(b)) : x - y;
    };
    body.append(...[...body.rows].sort((a, b) => (downwards ? before(b, a) : before(a, b))));
  });
}
