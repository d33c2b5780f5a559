// Draws the page's figures from the data inside it: figures come from attnlens.report.figures, in both themes;
// per head this script fills in weights and lines by the rules of link_figure.py (data.rules).
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const NARROW = 420;
  let printing = false;

  const theme = () => (printing ? "light" : root.dataset.theme || (prefersDark.matches ? "dark" : "light"));
  const bytes = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const width = (id) => byId(id).clientWidth;
  const range = (n) => Array.from({ length: n }, (_, i) => i);

  function draw(id, spec) {
    return Plotly.react(id, spec.data, spec.layout, data.config);
  }

  // ---- the theme -------------------------------------------------------------------------------------------------

  function startTheme(redraw) {
    const button = byId("theme");
    const name = () => { button.textContent = theme() === "dark" ? "Light" : "Dark"; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      name();
      redraw();
    });
    prefersDark.addEventListener("change", () => { name(); redraw(); });
    addEventListener("beforeprint", () => {
      printing = true;
      root.dataset.theme = "light";
      document.querySelectorAll("details.inprint").forEach((part) => { part.open = true; });
      redraw();
    });
    addEventListener("afterprint", () => { printing = false; delete root.dataset.theme; name(); redraw(); });
  }

  // ---- a page narrower than a figure wants -----------------------------------------------------------------------

  function fitMap(spec) {
    if (innerWidth >= 640) return spec;
    spec.layout.margin.l = 34;
    spec.data.forEach((trace) => {
      if (trace.type === "heatmap") trace.showscale = false;
      if (trace.mode === "text") trace.visible = false;
    });
    return spec;
  }

  function fitForest(spec, id) {
    if (width(id) >= NARROW) return spec;
    spec.layout.margin.l = 104;
    spec.layout.margin.r = 18;
    spec.data[2].visible = false;
    const aliases = spec.layout.yaxis.labelalias;
    Object.keys(aliases).forEach((key) => { aliases[key] = aliases[key].replace(/^(.{11}).{3,}$/u, "$1…"); });
    return spec;
  }

  // ---- a run's heads ---------------------------------------------------------------------------------------------

  function startRun() {
    const n = data.tokens.text.length;
    const state = { head: data.opened, metric: data.metric, query: null, threshold: data.rules.threshold };
    const cache = new Map();

    function layerOf(head) { return Number(/L(\d+)H/.exec(head)[1]); }

    function visibleOf(head) {
      const mask = data.weights.mask_of[layerOf(head)];
      if (!cache.has(mask)) cache.set(mask, bytes(data.weights.masks[mask]));
      const packed = cache.get(mask);
      return (query, key) => { const i = query * n + key; return (packed[i >> 3] >> (7 - (i & 7)) & 1) === 1; };
    }

    function weightsOf(head) {
      if (cache.has(head)) return cache.get(head);
      const raw = bytes(data.weights.heads[head]).buffer;
      const weights = data.weights.bits === 32 ? new Float32Array(raw) : Float32Array.from(new Uint16Array(raw), (step) => step / 65535);
      cache.set(head, weights);
      return weights;
    }

    function matrixOf(head) {
      const weights = weightsOf(head), visible = visibleOf(head);
      return range(n).map((query) => range(n).map((key) => (visible(query, key) ? weights[query * n + key] : null)));
    }

    // The strongest first; equal weights in order of their place.
    const strongestFirst = (pairs) => pairs.sort((a, b) => b.weight - a.weight || a.query - b.query || a.key - b.key);
    const number = (weight, digits) => weight.toFixed(digits);

    function rowLinks(matrix, query, least) {
      return range(n).filter((key) => matrix[query][key] !== null && matrix[query][key] >= least)
        .map((key) => ({ query, key, weight: matrix[query][key] }));
    }

    function chooseLinks(matrix) {
      const least = Math.fround(state.threshold), few = n > data.rules.many ? data.rules.few : n;
      return range(n).flatMap((query) => {
        const best = new Set(strongestFirst(rowLinks(matrix, query, -1)).slice(0, few).map((link) => link.key));
        return rowLinks(matrix, query, least).filter((link) => best.has(link.key));
      });
    }

    function fillLines(traces, links) {
      const edges = data.rules.bins.map((bin) => bin[0]);
      traces.forEach((trace, i) => {
        const inBin = links.filter(({ weight }) => weight >= edges[i] && (i + 1 === edges.length || weight < edges[i + 1]));
        trace.x = inBin.flatMap(() => [0, 1, null]);
        trace.y = inBin.flatMap(({ query, key }) => [query, key, null]);
      });
    }

    function fillHover(trace, links, names) {
      const places = links.flatMap((link) => data.rules.points.map((point) => ({ ...link, point })));
      trace.x = places.map(({ point }) => point);
      trace.y = places.map(({ query, key, point }) => query + point * (key - query));
      trace.text = places.map(({ query, key, weight }) =>
        `from <b>${names[query]}</b> (${query})<br>to <b>${names[key]}</b> (${key})<br>weight ${number(weight, 4)}`);
    }

    function three(title, links, other, names) {
      const lines = strongestFirst(links).slice(0, 3)
        .map((link) => `${number(link.weight, 4)} ${names[link[other]]} (${link[other]})`);
      return [title, ...lines].join("<br>");
    }

    function fillTokens(from, to, matrix, names) {
      const { ink, faint, accent } = data.rules.inks[theme()], query = state.query, shown = data.rules.threshold;
      const stressed = (key) => query !== null && matrix[query][key] !== null && matrix[query][key] >= Math.fround(shown);
      [[from, 0 - data.rules.apart], [to, 1 + data.rules.apart]].forEach(([trace, x]) => {
        trace.x = range(n).map(() => x);
        trace.y = range(n);
      });
      from.text = names.map((name, i) => (i === query ? `<b>${name}</b>` : name));
      from.textfont.color = names.map((_, i) => (i === query ? accent : ink));
      to.text = names.map((name, i) => (stressed(i) ? `<b>${number(matrix[query][i], 2)}</b>  ${name}` : name));
      to.textfont.color = names.map((_, i) => (query === null ? ink : stressed(i) ? accent : faint));
      from.hovertext = names.map((name, i) => three(`<b>${name}</b> (${i}) attends to`, rowLinks(matrix, i, -1), "key", names));
      to.hovertext = names.map((name, i) => three(`<b>${name}</b> (${i}) is attended to by`,
        range(n).filter((q) => matrix[q][i] !== null).map((q) => ({ query: q, key: i, weight: matrix[q][i] })), "query", names));
    }

    function note(matrix, nLines) {
      const nWeights = matrix.flat().filter((weight) => weight !== null).length;
      const rule = n > data.rules.many ? `, the ${data.rules.few} strongest of each query` : "";
      const lines = `${nLines.toLocaleString("en-US")} ${nLines === 1 ? "line" : "lines"}`;
      const weights = `${nWeights.toLocaleString("en-US")} ${nWeights === 1 ? "weight" : "weights"}`;
      return `${lines} of ${weights}: weight ${number(state.threshold, 2)} or more${rule}.`;
    }

    function linksSpec(matrix) {
      const spec = structuredClone(data.links[theme()]);
      const nBins = data.rules.bins.length, traces = spec.data, links = chooseLinks(matrix), { query } = state;
      const narrow = width("figure-links") < NARROW, names = narrow ? data.tokens.narrow : data.tokens.short;
      const own = query === null ? [] : rowLinks(matrix, query, Math.fround(Math.min(state.threshold, 0.01)));
      fillLines(traces.slice(0, nBins), query === null ? links : links.filter((link) => link.query !== query));
      fillLines(traces.slice(nBins, 2 * nBins), own);
      traces.slice(0, nBins).forEach((trace, i) => { trace.opacity = data.rules.bins[i][2] * (query === null ? 1 : 0.25); });
      fillHover(traces[2 * nBins], query === null ? links : own, data.tokens.short);
      fillTokens(traces[2 * nBins + 1], traces[2 * nBins + 2], matrix, names);
      spec.layout.annotations[2].text = note(matrix, links.length);
      if (narrow) spec.layout.margin.l = Math.min(spec.layout.margin.l, 88);
      if (narrow) spec.layout.margin.r = Math.min(spec.layout.margin.r, 112);
      return spec;
    }

    function matrixSpec(matrix) {
      const spec = structuredClone(data.matrices[data.weights.mask_of[layerOf(state.head)]][theme()]);
      spec.data[0].z = matrix;
      if (width("figure-matrix") < NARROW) {
        spec.data[0].showscale = false;
        const aliases = Object.fromEntries(data.tokens.narrow.map((name, i) => [String(i), name]));
        spec.layout.margin.l = Math.min(spec.layout.margin.l, 96);
        spec.layout.height -= Math.max(0, spec.layout.margin.t - 96);
        spec.layout.margin.t = Math.min(spec.layout.margin.t, 96);
        [spec.layout.xaxis, spec.layout.yaxis].forEach((axis) => { axis.labelalias = aliases; axis.title.text = ""; });
        spec.layout.xaxis.dtick = spec.layout.yaxis.dtick = Math.max(spec.layout.xaxis.dtick, Math.ceil(n / 20));
        spec.layout.height = Math.min(spec.layout.height, width("figure-matrix") + 40);
      }
      return spec;
    }

    function mapSpec() {
      const spec = fitMap(structuredClone(data.maps[state.metric][theme()]));
      const [layer, head] = /L(\d+)H(\d+)/.exec(state.head).slice(1).map(Number);
      const colour = data.rules.inks[theme()].accent;
      spec.layout.shapes = [{ type: "rect", x0: head - 0.5, x1: head + 0.5, y0: layer - 0.5, y1: layer + 0.5, line: { color: colour, width: 3 } }];
      return spec;
    }

    function cell(row, text, kind) {
      const element = row.insertCell();
      element.textContent = text;
      if (kind) element.className = kind;
      return element;
    }

    function token(row, i) {
      const element = cell(row, ""), name = document.createElement("bdi"), index = document.createElement("small");
      name.textContent = data.tokens.text[i];
      index.textContent = i;
      element.append(name, " ", index);
    }

    function fillStrongest(matrix) {
      const links = range(n).map((query) => rowLinks(matrix, query, -1)).filter((row) => row.length > 1).flat();
      const body = byId("strongest").tBodies[0];
      body.replaceChildren();
      strongestFirst(links).slice(0, 10).forEach((link) => {
        const row = body.insertRow();
        token(row, link.query);
        token(row, link.key);
        cell(row, number(link.weight, 4), "num");
      });
    }

    function fillWeights(matrix) {
      const body = byId("weights").tBodies[0];
      body.replaceChildren();
      if (!byId("all-weights").open) return;
      const head = body.insertRow();
      ["from \\ to", ...data.tokens.text].forEach((name) => cell(head, name));
      matrix.forEach((weights, query) => {
        const row = body.insertRow();
        cell(row, data.tokens.text[query]);
        weights.forEach((weight) => cell(row, weight === null ? "–" : number(weight, 4), "num"));
      });
    }

    function fillLabels() {
      const place = byId("labels");
      place.replaceChildren();
      (data.labels[state.head] || []).forEach((label) => {
        const chip = document.createElement("span"), text = document.createElement("span");
        chip.className = `chip cat-${label.category}`;
        chip.textContent = label.name;
        text.textContent = label.text;
        place.append(chip, " ", text, " ");
      });
    }

    function drawHead() {
      const matrix = matrixOf(state.head);
      document.querySelectorAll("[data-opened]").forEach((place) => { place.textContent = state.head; });
      byId("which").value = state.head;
      byId("from").value = state.query === null ? "" : String(state.query);
      byId("threshold-value").textContent = number(state.threshold, 2);
      byId("figure-map-caption").textContent = data.captions[state.metric];
      byId("figure-matrix-caption").textContent = byId("figure-matrix-caption").textContent
        .replace(/^Layer \d+, head \d+/, state.head.replace(/.*L(\d+)H(\d+)/, "Layer $1, head $2"));
      fillLabels();
      fillStrongest(matrix);
      fillWeights(matrix);
      draw("figure-map", mapSpec());
      draw("figure-links", linksSpec(matrix));
      draw("figure-matrix", matrixSpec(matrix));
    }

    function open(head, remember) {
      if (!(head in data.weights.heads)) return false;
      state.head = head;
      if (remember) history.replaceState(null, "", `#${head}`);
      drawHead();
      return true;
    }

    function step(by) {
      const heads = Object.keys(data.weights.heads), at = heads.indexOf(state.head);
      open(heads[(at + by + heads.length) % heads.length], true);
    }

    const fromHash = () => decodeURIComponent(location.hash.slice(1)).toUpperCase();
    if (fromHash() in data.weights.heads) state.head = fromHash();
    document.querySelectorAll(".controls").forEach((part) => { part.hidden = false; });
    drawHead();
    byId("metric").addEventListener("change", (event) => { state.metric = event.target.value; drawHead(); });
    byId("which").addEventListener("change", (event) => open(event.target.value, true));
    byId("from").addEventListener("change", (event) => { state.query = event.target.value === "" ? null : Number(event.target.value); drawHead(); });
    byId("threshold").addEventListener("input", (event) => { state.threshold = Number(event.target.value); drawHead(); });
    byId("all-weights").addEventListener("toggle", () => fillWeights(matrixOf(state.head)));
    byId("before").addEventListener("click", () => step(-1));
    byId("after").addEventListener("click", () => step(1));
    byId("figure-map").on("plotly_click", (event) => open(String(event.points[0].customdata), true));
    byId("figure-links").on("plotly_click", (event) => {
      const place = event.points[0];
      if (place.curveNumber !== 2 * data.rules.bins.length + 1) return;
      state.query = state.query === place.pointNumber ? null : place.pointNumber;
      drawHead();
    });
    addEventListener("hashchange", () => { if (open(fromHash(), false)) byId("head").scrollIntoView(); });
    if (location.hash && fromHash() === state.head && !byId(state.head)) byId("head").scrollIntoView();
    return drawHead;
  }

  // ---- labelled heads --------------------------------------------------------------------------------------------

  function startLabels() {
    const drawForest = (head) => {
      const id = `forest-${head}`;
      draw(id, fitForest(structuredClone(data.forests[head][theme()]), id));
    };
    const cards = Array.from(document.querySelectorAll("details.card"));
    const drawAll = () => {
      draw("figure-labels", fitMap(structuredClone(data.labels_map[theme()])));
      cards.filter((card) => card.open).forEach((card) => drawForest(card.id));
    };
    const openHash = () => {
      const card = byId(decodeURIComponent(location.hash.slice(1)).toUpperCase());
      if (!card || !cards.includes(card)) return;
      card.open = true;
      card.scrollIntoView();
    };
    cards.forEach((card) => card.addEventListener("toggle", () => { if (card.open) drawForest(card.id); }));
    drawAll();
    openHash();
    addEventListener("hashchange", openHash);
    byId("figure-labels").on("plotly_click", (event) => { location.hash = String(event.points[0].customdata); });
    const all = byId("open-all");
    if (all) {
      all.hidden = false;
      all.addEventListener("click", () => {
        const open = cards.some((card) => !card.open);
        cards.forEach((card) => { card.open = open; });
        all.textContent = open ? "Close all" : "Open all";
      });
    }
    return drawAll;
  }

  // ---- layers ----------------------------------------------------------------------------------------------------

  function startLayers() {
    const drawAll = () => data.layers.forEach((themes, index) => {
      draw(`layers-${index}`, structuredClone(themes[theme()]));
    });
    drawAll();
    return drawAll;
  }

  // ---- start -----------------------------------------------------------------------------------------------------

  const parts = [];
  if (data.labels_map) parts.push(startLabels());
  if ((data.layers || []).length) parts.push(startLayers());
  if (data.weights) parts.push(startRun());
  const redraw = () => parts.forEach((part) => part());
  startTheme(redraw);
  let pending = 0, wide = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === wide) return;
    wide = innerWidth;
    clearTimeout(pending);
    pending = setTimeout(redraw, 150);
  });
  root.dataset.ready = "yes";
})();
