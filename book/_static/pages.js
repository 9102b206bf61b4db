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

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".mf-map").forEach(trace);
  unfold();
});
