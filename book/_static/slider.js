// Pictures that answer to a slider: shows one frame at a time; without JavaScript the first one stays.
document.addEventListener("DOMContentLoaded", () => {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  document.querySelectorAll(".mf-slider").forEach(figure => {
    const frames = [...figure.querySelectorAll(".mf-frame")], range = figure.querySelector("input");
    const button = figure.querySelector("button"), at = figure.querySelector(".mf-at");
    const says = figure.querySelector(".mf-says");
    let timer = null;
    const show = number => {
      frames.forEach((frame, i) => { frame.hidden = i !== number; });
      const { label, says: words } = frames[number].dataset;
      at.textContent = label;
      says.textContent = words;
      range.value = number;
      range.setAttribute("aria-valuetext", `${label}. ${words}`);
    };
    const pause = () => {
      clearInterval(timer);
      timer = null;
      button.textContent = "Play";
    };
    const play = () => {
      if (+range.value === frames.length - 1) show(0);
      button.textContent = "Pause";
      timer = setInterval(() => {
        if (+range.value < frames.length - 1) show(+range.value + 1);
        if (+range.value === frames.length - 1) pause();
      }, Math.max(120, 5000 / frames.length));
    };
    // who asks for less motion moves the frames by hand
    const quiet = () => { button.hidden = still.matches; if (still.matches) pause(); };
    button.addEventListener("click", () => timer ? pause() : play());
    range.addEventListener("input", () => { pause(); show(+range.value); });
    still.addEventListener("change", quiet);
    quiet();
    show(+range.value);  // where a browser kept the place over a reload
    figure.querySelector(".mf-moves").hidden = false;
  });
});
