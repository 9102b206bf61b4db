// Sorting and filtering of the ledger; without JavaScript it is a plain table.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector(".mf-ledger table");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], words = rows.map(r => r.textContent.toLowerCase());
  const filter = document.getElementById("mf-filter"), count = document.getElementById("mf-count");
  const show = () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const hit = wanted.every(w => words[i].includes(w));
      row.hidden = !hit;
      row.style.display = hit ? "" : "none";
      shown += hit;
    });
    count.textContent = `${shown} of ${rows.length} claims`;
  };
  filter.addEventListener("input", show);
  show();
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.tabIndex = 0;
    const sort = () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      [...table.tHead.rows[0].cells].forEach(c => c.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      [...rows].sort((a, b) => (down ? -1 : 1) * a.cells[column].textContent.trim()
        .localeCompare(b.cells[column].textContent.trim(), undefined, {numeric: true}))
        .forEach(row => body.appendChild(row));
    };
    cell.addEventListener("click", sort);
    cell.addEventListener("keydown", e => { if (e.key === "Enter") sort(); });
  });
});
