const table = document.getElementById("table");
if (table) {
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].textContent.trim();
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.parentNode;
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      [...body.rows]
        .sort((a, b) => {
          const order = value(a, column).localeCompare(value(b, column), undefined, {numeric: true});
          return down ? -order : order;
        })
        .forEach((row) => body.append(row));
    });
  });
  document.getElementById("search").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
