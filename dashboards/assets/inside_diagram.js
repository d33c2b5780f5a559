/* Diagrams of /inside: boxes and lines come as data, and a click on a box opens a step or a page. */
(function () {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";

  function made(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function marker() {
    const arrow = made("marker", { id: "diagram-arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" });
    arrow.append(made("path", { d: "M0 0L8 4L0 8z", class: "arrow-head" }));
    const defs = made("defs", {});
    defs.append(arrow);
    return defs;
  }

  function drawnLine(line) {
    const points = line.points.map(([x, y]) => `${x},${y}`).join(" ");
    const given = { points, class: `line ${line.kind}` };
    return made("polyline", line.arrow ? { ...given, "marker-end": "url(#diagram-arrow)" } : given);
  }

  function shapeOf(box) {
    if (box.kind === "text") return null;
    if (box.kind === "add") return made("circle", { cx: box.x, cy: box.y, r: box.width / 2, class: "shape" });
    const corner = { x: box.x - box.width / 2, y: box.y - box.height / 2, width: box.width, height: box.height };
    return made("rect", { ...corner, rx: box.kind === "frame" ? 12 : 8, class: "shape" });
  }

  /* The link of a section in the navigation, which knows the address with its state. */
  function sectionLink(path) {
    const links = [...document.querySelectorAll(".sections a")];
    return links.find((link) => new URL(link.href, window.location).pathname.endsWith(path));
  }

  function drawnBox(box) {
    const opens = box.key || box.to;
    const group = made("g", { class: `box ${box.kind}${opens ? " opens" : ""}` });
    if (opens) {
      group.setAttribute("tabindex", "0");
      group.setAttribute("role", box.to ? "link" : "button");
      group.setAttribute("aria-label", [box.kind === "add" ? "Sum" : box.label, box.detail].filter(Boolean).join(", "));
    }
    if (box.key) group.dataset.key = box.key;
    if (box.to) group.dataset.to = box.to;
    const shape = shapeOf(box);
    if (shape) group.append(shape);
    if (box.kind === "frame") {
      group.append(made("text", { x: box.x - box.width / 2 + 12, y: box.y - box.height / 2 + 19, class: "frame-label" }, box.label));
      group.append(made("text", { x: box.x + box.width / 2 - 12, y: box.y - box.height / 2 + 19, class: "frame-label at-end" }, box.detail));
      return group;
    }
    const shift = box.detail ? -8 : 0;
    group.append(made("text", { x: box.x, y: box.y + shift, class: "label" }, box.label));
    if (box.detail) group.append(made("text", { x: box.x, y: box.y + 9, class: "detail" }, box.detail));
    return group;
  }

  function draw(data, id) {
    const host = document.getElementById(id);
    if (!host) return window.dash_clientside.no_update;
    host.replaceChildren();
    if (!data) return null;
    const size = { viewBox: `0 0 ${data.width} ${data.height}`, width: data.width, height: data.height };
    const svg = made("svg", { ...size, class: "diagram", role: "group", "aria-label": data.title });
    svg.style.minWidth = `${0.85 * data.width}px`; // below that it scrolls
    const frames = data.boxes.filter((box) => box.kind === "frame");
    const others = data.boxes.filter((box) => box.kind !== "frame");
    svg.append(marker(), ...frames.map(drawnBox), ...data.lines.map(drawnLine), ...others.map(drawnBox));
    host.append(svg);
    return Date.now();
  }

  function open(box) {
    if (box.dataset.to) {
      const link = sectionLink(box.dataset.to);
      if (link) link.click();
    } else {
      window.dash_clientside.set_props("block-part", { data: box.dataset.key });
    }
  }

  document.addEventListener("click", (event) => {
    const box = event.target.closest && event.target.closest(".diagram .opens, .section-link");
    if (box) open(box);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    const box = event.target.closest && event.target.closest(".diagram .opens");
    if (!box) return;
    event.preventDefault();
    open(box);
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    inside_diagram: {
      draw,
      drawAll(drawings) {
        if (!drawings) return window.dash_clientside.no_update;
        for (const [id, data] of Object.entries(drawings)) draw(data, id);
        return Date.now();
      },
    },
  });
})();
