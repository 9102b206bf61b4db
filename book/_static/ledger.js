// Sorting (within each paper) and filtering of the ledger; without JavaScript it is a plain table.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector(".mf-ledger table");
  if (!table) return;
  const bodies = [...table.tBodies], rows = bodies.flatMap(body => [...body.rows].slice(1));
  const words = rows.map(r => r.textContent.toLowerCase());
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
    bodies.forEach(body => { body.rows[0].style.display = [...body.rows].slice(1).every(r => r.hidden) ? "none" : ""; });
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
        .forEach(row => row.parentNode.appendChild(row));
    };
    cell.addEventListener("click", sort);
    cell.addEventListener("keydown", e => { if (e.key === "Enter") sort(); });
  });
});
