/* The part of a report that is about a run: the head map, one head as token view and matrix, its tables. */
(function () {
  "use strict";

  const N_STRONGEST = 12;
  const MAX_TABLE = 64; // rows and columns of the largest matrix that is written out as a table
  const SHORT = 128; // tokens up to which a map is shown whole
  const WINDOW = 64; // tokens along a side of the first window of a longer one
  const { AttnLens } = window;
  const { byId } = AttnLens;

  /* startRun({run, view}): `run` as run_document writes it, `view` what the page says about its heads. */
  function startRun({ run, view }) {
    const stacks = Object.fromEntries(Object.keys(run.stacks).map((letter) => [letter, AttnLens.stackInside(run, letter)]));
    const state = { head: view.opened, metric: view.metric, shown: "", threshold: 0.05, followed: null, window: null };
    const letterOf = (name) => /^[EDX]?/.exec(name)[0];
    const stack = () => stacks[letterOf(state.head)];
    const cellsOf = new Map();
    const picturesOf = new Map();
    const tables = [];
    const grid = AttnLens.headGrid(byId("head-map"), { choose: (name) => open(name, true), overlay: (name) => open(name, true) });
    const links = AttnLens.tokenLinks(byId("links"), { follow });
    const matrix = AttnLens.matrix(byId("matrix"));
    const overview = byId("overview") && AttnLens.overview(byId("overview"), { look });

    function follow(place) {
      state.followed = place;
      drawHead();
    }

    function look(window) {
      state.window = window;
      drawHead();
    }

    /* The address that a name means here: "L0H1" is a head of the main stack. */
    function addressOf(text) {
      const name = text.toUpperCase();
      const full = letterOf(name) ? name : view.main + name;
      const found = stacks[letterOf(full)];
      return found && full in found.stack.heads ? full : null;
    }

    function cells() {
      const letter = letterOf(state.head);
      const key = `${letter} ${state.metric}`;
      if (!cellsOf.has(key)) cellsOf.set(key, makeCells(letter, (view.metrics[letter] || {})[state.metric]));
      return cellsOf.get(key);
    }

    /* What the head map says of each head: the place of its number on the scale, its label, lines for the tooltip. */
    function makeCells(letter, metric) {
      const { n_layers, n_heads } = stacks[letter].stack;
      const heads = {};
      const categories = new Set();
      for (let layer = 0; layer < n_layers; layer += 1) {
        for (let head = 0; head < n_heads; head += 1) {
          const name = `${letter}L${layer}H${head}`;
          const value = metric ? metric.values[layer][head] : null;
          const labels = view.labels[name] || [];
          const lines = labels.map((label) => label.said);
          if (metric) lines.unshift(`${metric.name}: ${value === null ? "not defined here" : AttnLens.digits(value, metric.unit)}`);
          if (!(name in stacks[letter].stack.heads)) lines.push("left out of this file");
          if (labels.length) categories.add(labels[0].category);
          const share = value === null ? null : Math.max(0, Math.min(1, (value - metric.low) / (metric.high - metric.low || 1)));
          heads[name] = { share, category: labels.length ? labels[0].category : "", glyph: labels.length ? labels[0].glyph : "", lines };
        }
      }
      return { n_layers, n_heads, heads, name: metric ? metric.name : "", categories };
    }

    function pictures() {
      const letter = letterOf(state.head);
      if (!picturesOf.has(letter)) {
        const found = new Map();
        for (const name of Object.keys(cells().heads)) {
          const picture = stacks[letter].picture(name);
          if (picture) found.set(name, picture);
        }
        picturesOf.set(letter, found);
      }
      return picturesOf.get(letter);
    }

    function drawGrid() {
      const letter = letterOf(state.head);
      grid.show({ cells: cells(), pictures: pictures(), selected: state.head, others: [], letter, theme: "", version: 0 });
      legend();
    }

    function legend() {
      const host = byId("head-map-legend");
      const metric = (view.metrics[letterOf(state.head)] || {})[state.metric];
      const parts = [];
      if (metric) {
        const unit = metric.unit ? ` ${metric.unit}` : "";
        parts.push(...AttnLens.scaleLegend(metric.name, round(metric.low), `${round(metric.high)}${unit}`, metric.description));
      }
      for (const category of Object.keys(view.categories)) {
        if (!cells().categories.has(category)) continue;
        const entry = document.createElement("span");
        entry.className = `entry cat-${category}`;
        entry.textContent = view.categories[category];
        parts.push(entry);
      }
      host.replaceChildren(...parts);
    }

    const round = (value) => String(Number(value.toFixed(2)));

    /* The map that is chosen: the head's attention, or one of the measures that the file holds. */
    function chosenMap() {
      const map = stack().map(state.head);
      const extra = view.maps.find((each) => each.name === state.shown && each.stack === letterOf(state.head));
      if (!extra) return map;
      const layer = /L(\d+)H/.exec(state.head)[1];
      const key = extra.per === "all" ? "" : extra.per === "layer" ? layer : state.head;
      const held = extra.maps[key];
      if (!held) return { ...map, caption: `${extra.title} was taken of ${Object.keys(extra.maps).join(", ")} only; this is attention. ${map.caption}` };
      return stack().between({ ...extra, ...held });
    }

    function drawHead() {
      const whole = chosenMap();
      const isLong = Math.max(...whole.size) > SHORT;
      let map = whole;
      byId("overview-part").hidden = !isLong;
      if (isLong) {
        const [height, width] = whole.size;
        if (!state.window || state.window[1] > height || state.window[3] > width) {
          state.window = [0, Math.min(WINDOW, height), 0, Math.min(WINDOW, width)];
        }
        map = AttnLens.windowOf(whole, state.window);
        overview.show({ picture: stack().picture(state.head), size: whole.size, window: state.window });
      }
      const n = links.show({ maps: [map], threshold: state.threshold, top: 0, followed: state.followed });
      matrix.show({ map, followed: state.followed });
      const count = (number, one) => `${number.toLocaleString("en-US")} ${one}${number === 1 ? "" : "s"}`;
      byId("links-caption").textContent =
        `${count(n, "line")} of ${count(AttnLens.visibleCells(map), "weight")}: ${state.threshold.toFixed(2)} or more` +
        `${map.unit ? " of the largest" : ""}. Click a token, or move by the arrow keys, to follow it.`;
      byId("matrix-caption").textContent = whole.caption;
      byId("threshold-value").textContent = state.threshold.toFixed(2);
      for (const place of document.querySelectorAll("[data-opened]")) place.textContent = state.head;
      drawLabels();
      drawStrongest(map);
      tables.forEach((again) => again());
    }

    function drawLabels() {
      const parts = (view.labels[state.head] || []).flatMap((label) => {
        const chip = document.createElement("span");
        chip.className = `chip cat-${label.category}`;
        chip.textContent = label.name;
        return [chip, ` ${label.text} `];
      });
      byId("labels").replaceChildren(...parts);
    }

    function drawStrongest(map) {
      const place = (side, at) => `${side.labels[at]} (${side.places[at]})`;
      const rows = AttnLens.strongest(map, N_STRONGEST).map(([row, column, weight]) => [
        place(map.rows, row), place(map.columns, column), AttnLens.digits(weight, ""),
      ]);
      const caption = `The strongest weights of ${map.name}${map.window ? " in this part" : ""}; tokens that can see only one token are left out.`;
      AttnLens.table(byId("strongest"), caption, ["from", "to", map.unit || "weight"], rows, ["", "", "number"]);
    }

    function fillMatrix(place) {
      const whole = chosenMap();
      const map = Math.max(...whole.size) > SHORT ? AttnLens.windowOf(whole, state.window) : whole;
      if (Math.max(map.rows.labels.length, map.columns.labels.length) > MAX_TABLE) {
        place.textContent = `${map.rows.labels.length} rows are too many for a table; attnlens open restores the run with all numbers.`;
        return;
      }
      const rows = map.rows.labels.map((label, row) => [
        label, ...map.columns.labels.map((_, at) => (Number.isNaN(map.weight(row, at)) ? "–" : map.weight(row, at).toFixed(4))),
      ]);
      const kinds = ["", ...map.columns.labels.map(() => "number")];
      AttnLens.table(place, `${map.name}: rows attend to columns; a dash is not visible.`, ["from \\ to", ...map.columns.labels], rows, kinds);
    }

    function fillMetrics(place) {
      const letter = letterOf(state.head);
      const metrics = Object.values(view.metrics[letter] || {});
      const rows = Object.keys(cells().heads).map((name) => {
        const [layer, head] = /L(\d+)H(\d+)$/.exec(name).slice(1).map(Number);
        return [name, ...metrics.map((metric) => metric.values[layer][head])];
      });
      const columns = ["head", ...metrics.map((metric) => metric.name + (metric.unit ? ` (${metric.unit})` : ""))];
      AttnLens.fillTable(place, { caption: "Every measure of every head on this text.", columns, rows });
    }

    function fillTokens(place) {
      const rows = run.tokens.map((token, at) => [
        String(at), token.label, String(token.id), token.span ? token.span.join("–") : "–",
        token.word !== null ? run.words[token.word].label : token.special ? "special" : "–",
      ]);
      AttnLens.fillTable(place, { caption: "Every token as the model saw it.", columns: ["index", "token", "identifier", "characters", "word"], rows });
    }

    function fillPickers() {
      const picker = byId("which");
      const letter = letterOf(state.head);
      if (picker.dataset.letter !== `of ${letter}`) {
        picker.dataset.letter = `of ${letter}`;
        picker.replaceChildren(...stack().names.map((name) => new Option(name, name)));
        const metrics = Object.entries(view.metrics[letter] || {}).map(([key, metric]) => new Option(metric.name, key));
        byId("metric").replaceChildren(...metrics, ...(view.labelled ? [new Option("labels", "")] : []));
        const extra = view.maps.filter((each) => each.stack === letter);
        byId("shown").replaceChildren(new Option("attention", ""), ...extra.map((each) => new Option(each.title, each.name)));
        byId("shown-part").hidden = extra.length === 0;
      }
      picker.value = state.head;
      byId("metric").value = state.metric;
      byId("shown").value = state.shown;
      if (byId("stack")) byId("stack").value = letter;
    }

    function open(name, remember) {
      const letter = letterOf(name);
      const full = name in stacks[letter].stack.heads ? name : null;
      if (!full) return;
      if (letter !== letterOf(state.head)) Object.assign(state, { window: null, followed: null, shown: "" });
      state.head = full;
      if (remember) history.replaceState(null, "", `#${full}`);
      fillPickers();
      drawGrid();
      drawHead();
    }

    function step(by) {
      const { names } = stack();
      open(names[(names.indexOf(state.head) + by + names.length) % names.length], true);
    }

    function walk(event) {
      const name = AttnLens.walked(event, state.head, stack().stack, (next) => next in stack().stack.heads);
      if (name) open(name, true);
    }

    function listen() {
      const on = (id, event, act) => byId(id) && byId(id).addEventListener(event, act);
      on("metric", "change", (event) => {
        state.metric = event.target.value;
        drawGrid();
      });
      on("stack", "change", (event) => open(stacks[event.target.value].names[0], true));
      on("which", "change", (event) => open(event.target.value, true));
      on("shown", "change", (event) => {
        state.shown = event.target.value;
        drawHead();
      });
      on("threshold", "input", (event) => {
        state.threshold = Number(event.target.value);
        drawHead();
      });
      on("before", "click", () => step(-1));
      on("after", "click", () => step(1));
      on("head-map", "keydown", walk);
      addEventListener("hashchange", () => {
        const name = addressOf(decodeURIComponent(location.hash.slice(1)));
        if (!name) return;
        open(name, false);
        byId("head").scrollIntoView();
      });
    }

    const asked = addressOf(decodeURIComponent(location.hash.slice(1)));
    if (asked) state.head = asked;
    for (const part of document.querySelectorAll(".controls")) part.hidden = false;
    byId("head-map").tabIndex = 0;
    fillPickers();
    listen();
    drawGrid();
    drawHead();
    tables.push(AttnLens.onDemand("all-weights", fillMatrix), AttnLens.onDemand("all-metrics", fillMetrics));
    AttnLens.onDemand("all-tokens", fillTokens);
    if (asked && !byId(asked)) byId("head").scrollIntoView();
  }

  window.AttnLens = Object.assign(AttnLens, { startRun });
})();
