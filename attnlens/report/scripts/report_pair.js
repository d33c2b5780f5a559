/* A report on two runs: how far every head is from its counterpart, and one head in both, by the words they share. */
(function () {
  "use strict";

  const N_STRONGEST = 12;
  const { AttnLens } = window;
  const { byId } = AttnLens;

  /* A map by words: the mean over the tokens of the word that attends of the sum over those of the word attended to. */
  function byWords(map, lines, side) {
    const n = lines.length;
    const weights = new Float32Array(n * n);
    lines.forEach((row, r) =>
      lines.forEach((column, c) => {
        let sum = 0;
        let seen = 0;
        for (const query of row[side]) {
          for (const key of column[side]) {
            const weight = map.weight(query, key);
            if (!Number.isNaN(weight)) {
              sum += weight;
              seen += 1;
            }
          }
        }
        weights[r * n + c] = seen ? sum / row[side].length : NaN;
      }),
    );
    return weights;
  }

  function mapOf(name, lines, weights, more) {
    const side = { labels: lines.map((line) => line.label), places: lines.map((_, at) => at) };
    const n = lines.length;
    return {
      name, caption: "", rows: side, columns: side, level: "words", size: [n, n], window: null, unit: "", high: 1,
      weights, weight: (row, column) => weights[row * n + column], ...more,
    };
  }

  function startPair({ runs, view }) {
    const stacks = runs.map((run, at) => AttnLens.stackInside(run, view.letters[at]));
    const names = Object.keys(view.pairs);
    let opened = view.opened;
    const grid = AttnLens.headGrid(byId("head-map"), { choose: (name) => open(name, true), overlay: (name) => open(name, true) });
    const [first, second, difference] = ["first", "second", "difference"].map((id) => AttnLens.matrix(byId(id)));
    const { n_layers, n_heads } = stacks[0].stack;
    const cells = { n_layers, n_heads, name: "divergence", heads: {} };
    const pictures = new Map();
    for (let layer = 0; layer < n_layers; layer += 1) {
      for (let head = 0; head < n_heads; head += 1) {
        const name = `${view.letters[0]}L${layer}H${head}`;
        const [other, apart] = view.pairs[name] || [null, null];
        const lines = [other === null ? "no counterpart" : `divergence${other === name ? "" : ` from ${other}`}: ${apart === null ? "not defined" : AttnLens.digits(apart, "nats")}`];
        cells.heads[name] = { share: apart === null ? null : apart / view.high, category: "", glyph: "", lines };
        const picture = stacks[0].picture(name);
        if (picture) pictures.set(name, picture);
      }
    }

    function legend() {
      const high = `${Number(view.high.toFixed(3))} nats`;
      byId("head-map-legend").replaceChildren(...AttnLens.scaleLegend("divergence", 0, high, view.description));
    }

    function open(name, remember) {
      if (!(name in view.pairs)) return;
      opened = name;
      if (remember) history.replaceState(null, "", `#${name}`);
      byId("which").value = name;
      grid.show({ cells, pictures, selected: name, others: [], letter: view.letters[0], theme: "", version: 0 });
      const [other, apart] = view.pairs[name];
      const maps = [stacks[0].map(name), stacks[1].map(other)];
      for (const place of document.querySelectorAll("[data-opened]")) place.textContent = name;
      const said = `${name}${other === name ? "" : ` and ${other}`}: mean divergence ${apart === null ? "not defined" : AttnLens.digits(apart, "nats")}.`;
      byId("pair-caption").textContent = maps[0] && maps[1] ? said : `${said} Its maps are left out of this file.`;
      if (!maps[0] || !maps[1]) return;
      const [one, two] = [byWords(maps[0], view.rows, "first"), byWords(maps[1], view.rows, "second")];
      const less = two.map((weight, at) => weight - one[at]);
      const high = less.reduce((most, weight) => Math.max(most, Math.abs(weight) || 0), 1e-6);
      first.show({ map: mapOf(name, view.rows, one), followed: null });
      second.show({ map: mapOf(other, view.rows, two), followed: null });
      difference.show({ map: mapOf("difference", view.rows, less, { high, signed: true }), followed: null });
      strongest(one, two, less);
    }

    function strongest(one, two, less) {
      const n = view.rows.length;
      const order = Array.from(less.keys()).filter((at) => !Number.isNaN(less[at]));
      order.sort((a, b) => Math.abs(less[b]) - Math.abs(less[a]) || a - b);
      const rows = order.slice(0, N_STRONGEST).map((at) => [
        view.rows[Math.floor(at / n)].label, view.rows[at % n].label,
        ...[one, two, less].map((weights) => weights[at].toFixed(4).replace("-", "−")),
      ]);
      const kinds = ["", "", "number", "number", "number"];
      AttnLens.table(byId("strongest"), "The largest differences.", ["from", "to", "first", "second", "difference"], rows, kinds);
    }

    function addressOf(text) {
      const name = text.toUpperCase();
      return name in view.pairs ? name : view.letters[0] + name in view.pairs ? view.letters[0] + name : null;
    }

    byId("which").replaceChildren(...names.map((name) => new Option(name, name)));
    byId("which").addEventListener("change", (event) => open(event.target.value, true));
    byId("head-map").tabIndex = 0;
    byId("head-map").addEventListener("keydown", (event) => {
      const next = AttnLens.walked(event, opened, cells, (name) => name in view.pairs);
      if (next) open(next, true);
    });
    addEventListener("hashchange", () => {
      const name = addressOf(decodeURIComponent(location.hash.slice(1)));
      if (name) open(name, false);
    });
    for (const part of document.querySelectorAll(".controls")) part.hidden = false;
    legend();
    open(addressOf(decodeURIComponent(location.hash.slice(1))) || opened, false);
  }

  window.AttnLens = Object.assign(AttnLens, { startPair });
})();
