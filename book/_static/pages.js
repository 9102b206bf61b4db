// Small things for every page: a link to a folded entry opens it; the map shows on whom a result
// rests; formulas and tables that are wider than the page can be scrolled with the keyboard.
const unfold = () => {
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!place) return;
  for (let fold = place.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  if (place.closest("details")) place.scrollIntoView();
};
window.addEventListener("hashchange", unfold);

const trace = map => {
  const arrows = [...map.querySelectorAll("path[data-from]")], nodes = [...map.querySelectorAll("[data-node]")];
  const reach = (start, from, to) => {
    const met = new Set([start]), used = new Set(), left = [start];
    while (left.length) {
      const node = left.pop();
      arrows.filter(arrow => arrow.dataset[from] === node).forEach(arrow => {
        used.add(arrow);
        if (!met.has(arrow.dataset[to])) { met.add(arrow.dataset[to]); left.push(arrow.dataset[to]); }
      });
    }
    return [met, used];
  };
  const light = node => {
    const [above, up] = reach(node, "from", "to"), [below, down] = reach(node, "to", "from");
    map.classList.add("mf-traced");
    nodes.forEach(n => n.classList.toggle("mf-lit", above.has(n.dataset.node) || below.has(n.dataset.node)));
    arrows.forEach(a => a.classList.toggle("mf-lit", up.has(a) || down.has(a)));
  };
  const dim = () => map.classList.remove("mf-traced");
  nodes.forEach(node => {
    node.addEventListener("pointerenter", () => light(node.dataset.node));
    node.addEventListener("focus", () => light(node.dataset.node));
    node.addEventListener("pointerleave", dim);
    node.addEventListener("blur", dim);
  });
};

// Panels that stand side by side are shown one below the other on a phone (book.css says when).
const stack = image => {
  const box = document.createElement("div");
  box.className = "mf-stack";
  box.setAttribute("aria-hidden", "true");
  image.dataset.panels.split(" ").forEach(panel => {
    const [from, to] = panel.split("-").map(Number), frame = document.createElement("div"), copy = new Image();
    copy.src = image.src;
    copy.alt = "";
    copy.style.cssText = `width:${100 / (to - from)}%;margin-left:${-100 * from / (to - from)}%`;
    frame.append(copy);
    box.append(frame);
  });
  image.after(box);
};

// What is wider than the page scrolls, by touch and by keyboard.
const scrollable = () => document.querySelectorAll("mjx-container, .bd-article pre, .bd-article .mf-map, .bd-article table.table, .bd-article .mf-verdicts, .bd-article .pst-scrollable-table-container, .mf-card")
  .forEach(box => {
    const inline = box.matches("mjx-container:not([display])");
    if (inline) {
      let around = box.parentElement;
      while (!around.clientWidth && around !== document.body) around = around.parentElement;  // lines have none
      box.classList.remove("mf-wide");
      const room = around.getBoundingClientRect().right - parseFloat(getComputedStyle(around).paddingRight);
      box.classList.toggle("mf-wide", box.getBoundingClientRect().right > room + 1);
    }
    if (box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0) box.tabIndex = 0;
  });

// On paper everything is unfolded and every picture is there; afterwards the page is as before.
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open])").forEach(fold => { fold.open = fold.dataset.printed = true; });
  document.querySelectorAll("img[loading=lazy]").forEach(image => { image.loading = "eager"; });
});
window.addEventListener("afterprint", () => {
  document.querySelectorAll("details[data-printed]").forEach(fold => { fold.open = false; delete fold.dataset.printed; });
});

document.addEventListener("DOMContentLoaded", () => {
  // a role that ARIA has given up, for the entries of the list of references
  document.querySelectorAll("[role=doc-biblioentry]").forEach(entry => entry.setAttribute("role", "listitem"));
  document.querySelectorAll("img[data-panels]").forEach(stack);
  const settled = () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(scrollable);
  window.addEventListener("load", settled);
  window.addEventListener("resize", settled);
  document.addEventListener("toggle", settled, true);  // what was folded has no width before
  document.querySelectorAll(".mf-map").forEach(trace);
  unfold();
});
