/* The Intervene page: heads are switched by click and key, edges are cut, a sweep goes on layer by layer. */
(function () {
  "use strict";

  const HEAD = /^([EDX]?)L(\d+)H(\d+)$/;
  const grid = { layers: 0, heads: 0, head: "", off: "" };
  let stopped = true;

  function none() {
    return window.dash_clientside.no_update;
  }

  function parts(text) {
    return (text || "").split(",").filter(Boolean);
  }

  function address(name) {
    const match = HEAD.exec(name);
    return match ? [Number(match[2]), Number(match[3])] : [0, 0];
  }

  function letter(name) {
    const match = HEAD.exec(name || "");
    return match ? match[1] : "";
  }

  /* The list of heads with one more, or one less. */
  function switched(off, name) {
    const head = name.replace(/^D/, ""); // the decoder needs no letter
    const heads = parts(off).map((one) => one.replace(/^D/, ""));
    const others = heads.filter((one) => one !== head);
    if (others.length === heads.length) others.push(head);
    others.sort((a, b) => address(a)[0] - address(b)[0] || address(a)[1] - address(b)[1] || letter(a).localeCompare(letter(b)));
    return others.join(",");
  }

  function label(running) {
    const button = document.getElementById("sweep-button");
    if (button) button.textContent = running ? "Stop" : "Measure every head";
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    intervene: {
      toggleHead(click, off) {
        const point = click && click.points && click.points[0];
        const name = point && point.customdata;
        if (typeof name !== "string" || !HEAD.test(name)) return none();
        window.dash_clientside.set_props("off-map", { clickData: null }); // so that a second click on the cell counts
        return switched(off, name);
      },

      allOn(clicks) {
        return clicks ? "" : none();
      },

      remember(run, head, off) {
        if (!run) return "";
        const stack = run.stacks.find((one) => one.letter === letter(head)) || { n_layers: run.n_layers, n_heads: run.n_heads };
        Object.assign(grid, { layers: stack.n_layers, heads: stack.n_heads, head: head || "", off: off || "" });
        return "";
      },

      addCut(clicks, cuts, query, key, which, head) {
        if (!clicks || !query || !key) return none();
        const where = which === "all" ? letter(head).replace("D", "") : head; // a letter: every head of that stack
        const edge = where ? `${query}-${key}@${where}` : `${query}-${key}`;
        return parts(cuts).includes(edge) ? none() : [...parts(cuts), edge].join(",");
      },

      removeCut(clicks, cuts) {
        const context = window.dash_clientside.callback_context;
        if (!clicks.some(Boolean) || !context.triggered_id) return none();
        return parts(cuts)
          .filter((_, place) => place !== context.triggered_id.index)
          .join(",");
      },

      startSweep(clicks) {
        if (!clicks) return none();
        stopped = !stopped;
        label(!stopped);
        return stopped ? none() : { layer: 0, at: Date.now() };
      },

      nextLayer(sweep) {
        if (!sweep) return none();
        if (!stopped && sweep.done < sweep.of) {
          window.dash_clientside.set_props("sweep-step", { data: { layer: sweep.done, key: sweep.key } });
          return `${sweep.done} of ${sweep.of} layers measured`;
        }
        const whole = sweep.done >= sweep.of;
        stopped = true;
        label(false);
        return whole ? "" : `stopped after ${sweep.done} of ${sweep.of} layers`;
      },
    },
  });

  function moved(key) {
    let [layer, head] = address(grid.head);
    if (key === "ArrowUp") layer -= 1;
    else if (key === "ArrowDown") layer += 1;
    else if (key === "ArrowLeft") head -= 1;
    else if (key === "ArrowRight") head += 1;
    else if (key === "Home") head = 0;
    else if (key === "End") head = grid.heads - 1;
    else return null;
    const inside = layer >= 0 && layer < grid.layers && head >= 0 && head < grid.heads;
    const stack = HEAD.exec(grid.head)[1];
    return inside ? `${stack}L${layer}H${head}` : grid.head;
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "off-map-frame" || !HEAD.test(grid.head)) return;
    if (event.key === " ") {
      event.preventDefault(); // no scrolling
      grid.off = switched(grid.off, grid.head);
      window.dash_clientside.set_props("off", { data: grid.off });
      return;
    }
    const name = moved(event.key);
    if (name === null) return;
    event.preventDefault();
    if (name !== grid.head) {
      grid.head = name;
      window.dash_clientside.set_props("head", { value: name });
    }
  });
})();
