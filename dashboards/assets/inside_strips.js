/* Vectors as strips of colour on canvases, for the pages of one head and of all heads. */
(function () {
  "use strict";

  function inks() {
    const style = getComputedStyle(document.documentElement);
    const named = (name) => style.getPropertyValue(`--al-${name}`).trim();
    return { above: rgb(named("seq-6")), below: rgb(named("accent")), zero: rgb(named("surface")) };
  }

  function rgb(hex) {
    return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  }

  function tint(value, reach, ink) {
    const share = Math.min(1, Math.abs(value) / reach);
    const end = value < 0 ? ink.below : ink.above;
    return `rgb(${ink.zero.map((zero, place) => Math.round(zero + share * (end[place] - zero))).join(" ")})`;
  }

  /* A canvas with one cell per number, named for screen readers; a pointer reads its numbers. */
  function strip(values, reach, name, ink) {
    const canvas = document.createElement("canvas");
    const wide = Math.max(1, Math.floor(360 / values.length));
    canvas.className = "strip";
    canvas.width = wide * values.length;
    canvas.height = 1;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}: ${values.length} numbers`);
    const context = canvas.getContext("2d");
    values.forEach((value, place) => {
      context.fillStyle = tint(value, reach, ink);
      context.fillRect(place * wide, 0, wide, 1);
    });
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const place = Math.min(values.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * values.length)));
      canvas.title = `${name}, dimension ${place}: ${values[place]}`;
    });
    return canvas;
  }

  function made(tag, kind, text) {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function number(value) {
    if (value === null) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 0.001 || size >= 10000) ? value.toExponential(1) : value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
    return text.replace("-", "−").replace("e+", "e");
  }

  window.attnlens_strips = { inks, made, number, strip };
})();
