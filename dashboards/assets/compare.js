/* The Compare page: a cell under the pointer, or one that is held, is the same cell in all pictures of the head. */
(function () {
  "use strict";

  const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const PATIENCE = 200; // frames until pictures that the server has sent are drawn
  const bound = new WeakSet();
  let held = null; // the cell that is held, [row, column]

  function frame() {
    return document.getElementById("pair-pictures");
  }

  function pictures() {
    const place = frame();
    return place ? [...place.querySelectorAll(".js-plotly-plot")].filter((plot) => plot.calcdata) : [];
  }

  function weights(plot) {
    return plot.calcdata[0][0].z;
  }

  function label(axis, at) {
    const alias = axis.labelalias && axis.labelalias[String(at)];
    return alias === undefined ? String(at) : alias;
  }

  /* Labels are escaped for the pictures; a document that is never shown turns them back into plain text. */
  function plain(text) {
    return new DOMParser().parseFromString(text, "text/html").body.textContent;
  }

  function isolated(text) {
    const part = document.createElement("bdi");
    part.textContent = plain(text);
    return part;
  }

  function signed(value) {
    return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
  }

  /* One line with the exact weights of a cell in both runs. */
  function tell(cell) {
    const line = document.getElementById("pair-cell");
    const plots = pictures();
    if (!line || plots.length < 3) return;
    if (!cell) {
      line.textContent = line.dataset.hint;
      return;
    }
    const [row, column] = cell;
    const { xaxis, yaxis } = plots[0].layout;
    const [first, second] = plots.map((plot) => weights(plot)[row][column]);
    line.replaceChildren(
      "from “", isolated(label(yaxis, row)), "” to “", isolated(label(xaxis, column)),
      `”: first ${first.toFixed(4)}, second ${second.toFixed(4)}, difference ${signed(second - first)}`,
    );
  }

  function point(cell, source) {
    for (const plot of pictures()) {
      if (plot === source) continue;
      if (cell) window.Plotly.Fx.hover(plot, { xval: cell[1], yval: cell[0] });
      else window.Plotly.Fx.unhover(plot);
    }
    tell(cell || held);
  }

  /* A frame around the cell that is held, and thin ones around its row and its column. */
  function mark() {
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--al-accent").trim();
    for (const plot of pictures()) {
      const z = weights(plot);
      const box = (x0, x1, y0, y1, width) => ({
        type: "rect", x0: x0 - 0.5, x1: x1 + 0.5, y0: y0 - 0.5, y1: y1 + 0.5, line: { color: colour, width },
      });
      const shapes = [];
      if (held) {
        const [row, column] = held;
        shapes.push(box(0, z[0].length - 1, row, row, 1), box(column, column, 0, z.length - 1, 1), box(column, column, row, row, 2.5));
      }
      window.Plotly.relayout(plot, { shapes });
    }
    tell(held);
  }

  function fits(cell) {
    const [plot] = pictures();
    return Boolean(plot && cell) && cell[0] >= 0 && cell[1] >= 0 && cell[0] < weights(plot).length && cell[1] < weights(plot)[0].length;
  }

  function hold(cell) {
    window.dash_clientside.set_props("held-cell", { data: cell ? cell.join("-") : "" });
  }

  function bind(plot) {
    if (bound.has(plot) || !plot.on) return;
    bound.add(plot);
    const cellOf = (event) => event.points && event.points[0] && event.points[0].pointNumber;
    plot.on("plotly_hover", (event) => cellOf(event) && point(cellOf(event), plot));
    plot.on("plotly_unhover", () => point(null, plot));
    plot.on("plotly_click", (event) => {
      const cell = cellOf(event);
      if (cell) hold(held && String(held) === String(cell) ? null : [...cell]);
    });
  }

  /* Pictures are drawn some time after the server has sent them. */
  function whenDrawn(left) {
    const place = frame();
    if (!place || left === 0) return;
    const plots = pictures();
    if (plots.length < 3) {
      requestAnimationFrame(() => whenDrawn(left - 1));
      return;
    }
    plots.forEach(bind);
    if (!fits(held)) held = null;
    mark();
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    compare: {
      askName(model) {
        return model === "(other)" ? "against-other" : "is-hidden";
      },

      showHeld(cell) {
        const found = /^(\d+)-(\d+)$/.exec(cell || "");
        held = found ? [Number(found[1]), Number(found[2])] : null;
        whenDrawn(PATIENCE);
        return window.dash_clientside.no_update;
      },
    },
  });

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "pair-pictures") return;
    if (event.key === "Escape" && held) hold(null);
    else if (event.key in KEYS) {
      const [down, right] = KEYS[event.key];
      const next = held ? [held[0] + down, held[1] + right] : [0, 0];
      if (fits(next)) hold(next);
    } else return;
    event.preventDefault();
  });
})();
