// The ledger: filters (kept in the address), sorting within each paper. Without JavaScript it
// is a plain table whose rows unfold.
document.addEventListener("DOMContentLoaded", () => {
  const ledger = document.querySelector(".mf-ledger");
  if (!ledger) return;
  const table = ledger.querySelector("table"), bodies = [...table.tBodies];
  const rows = bodies.flatMap(body => [...body.rows].slice(1));
  const words = rows.map(row => row.textContent.toLowerCase());
  const filter = document.getElementById("mf-filter"), count = document.getElementById("mf-count");
  const buttons = [...ledger.querySelectorAll("[data-filter]")];
  const pressed = button => button.getAttribute("aria-pressed") === "true";
  ledger.querySelector(".mf-filters").hidden = false;

  const wanted = () => {
    const found = {};
    buttons.filter(pressed).forEach(b => (found[b.dataset.filter] ??= []).push(b.dataset.value));
    return found;
  };
  const show = () => {
    const sought = filter.value.toLowerCase().split(/\s+/).filter(Boolean), chosen = Object.entries(wanted());
    let shown = 0;
    rows.forEach((row, i) => {
      const hit = sought.every(word => words[i].includes(word)) &&
        chosen.every(([key, values]) => values.includes(row.dataset[key]));
      row.hidden = !hit;
      shown += hit;
    });
    bodies.forEach(body => { body.rows[0].hidden = [...body.rows].slice(1).every(row => row.hidden); });
    count.textContent = `${shown} of ${rows.length} claims shown`;
    const query = new URLSearchParams(chosen.map(([key, values]) => [key, values.join(" ")]));
    if (filter.value) query.set("words", filter.value);
    history.replaceState(null, "", (String(query) ? "?" + query : location.pathname) + location.hash);
  };
  const query = new URLSearchParams(location.search);
  buttons.forEach(button => {
    const values = (query.get(button.dataset.filter) || "").split(" ");
    button.setAttribute("aria-pressed", values.includes(button.dataset.value));
    button.addEventListener("click", () => { button.setAttribute("aria-pressed", !pressed(button)); show(); });
  });
  filter.value = query.get("words") || "";
  filter.addEventListener("input", show);
  ledger.querySelector(".mf-reset").addEventListener("click", () => {
    buttons.forEach(button => button.setAttribute("aria-pressed", false));
    filter.value = "";
    show();
  });
  ledger.querySelector(".mf-unfold").addEventListener("click", event => {
    const shown = rows.filter(row => !row.hidden).map(row => row.querySelector("details"));
    const open = shown.some(details => !details.open);
    shown.forEach(details => { details.open = open; });
    event.target.textContent = open ? "fold what is shown" : "unfold what is shown";
  });
  show();

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    [...rows].sort((a, b) => (down ? -1 : 1) * a.cells[column].textContent.trim()
      .localeCompare(b.cells[column].textContent.trim(), undefined, {numeric: true}))
      .forEach(row => row.parentNode.appendChild(row));
  }));
});
