/* The Explore page: asks for packed numbers, keeps them, and hands them to the scripts that draw. */
(function () {
  "use strict";

  const MOST_BYTES = 64 * 1024 * 1024; // numbers kept; the least recently used go first
  const MOST_ANSWERS = 16; // kept of the same run, controls and window: of a long text one for each layer
  const SHORT = 128; // tokens
  const N_STRONGEST = 12;
  const MAX_TABLE = 64; // rows and columns of the largest matrix that is written out as a table
  const kept = new Map(); // address -> {value, bytes}, the latest used last
  const asked = new Map(); // address -> promise
  const views = new Map(); // id -> {host, view}
  let state = null; // the controls' values, by id
  let cells = null; // what the server said last about the heads of a run
  let ticket = 0; // of the latest drawing; an answer to an earlier one is not drawn
  let version = 0; // of the pictures of the head map, which come layer by layer

  function keep(address, value, bytes) {
    kept.delete(address);
    kept.set(address, { value, bytes });
    let total = 0;
    for (const entry of kept.values()) total += entry.bytes;
    for (const [oldest, entry] of kept) {
      if (total <= MOST_BYTES || oldest === address) break;
      kept.delete(oldest);
      total -= entry.bytes;
    }
    return value;
  }

  function found(address) {
    const entry = kept.get(address);
    return entry ? keep(address, entry.value, entry.bytes) : null;
  }

  async function fetchBytes(what, query) {
    const prefix = window.dash_clientside.attnlens.prefix();
    const answer = await fetch(`${prefix}data/${what}?${query}`);
    if (!answer.ok) throw new Error((await answer.text()).trim().slice(0, 500) || `the server answered ${answer.status}`);
    return answer.arrayBuffer();
  }

  /* What `read` makes of an answer; asked for once. */
  function numbers(what, query, read) {
    const address = `${what}?${query}`;
    const here = found(address);
    if (here) return Promise.resolve(here);
    if (!asked.has(address)) {
      const promise = fetchBytes(what, query)
        .then((buffer) => keep(address, read(buffer), buffer.byteLength))
        .finally(() => asked.delete(address));
      asked.set(address, promise);
    }
    return asked.get(address);
  }

  /* The part of the page with this id, drawn by what `make` gives; made again when the page was left and entered. */
  function view(id, make) {
    const host = document.getElementById(id);
    if (!host) return null;
    const known = views.get(id);
    if (known && known.host === host) return known.view;
    const made = make(host);
    views.set(id, { host, view: made });
    return made;
  }

  function set(id, props) {
    window.dash_clientside.set_props(id, props);
  }

  function letterOf(head) {
    return /^[EDX]?/.exec(head)[0];
  }

  /* What all maps of the shown run have in common, in the words of `dashboards.data`. */
  function settings() {
    const query = new URLSearchParams(state.run.request);
    const flags = {
      words: state.words === "words",
      hide_special: state["hide-special"],
      hide_sinks: state["hide-sinks"],
      whole_rows: state["whole-rows"],
    };
    for (const [name, on] of Object.entries(flags)) if (on) query.append(name, "1");
    if (state.between) query.append("between", state.between);
    return query.toString();
  }

  function others() {
    return (state.also || []).filter((name) => name !== state.head && letterOf(name) === letterOf(state.head));
  }

  function isCombined() {
    return state.combine !== "overlay" && others().length > 0;
  }

  /* A head's map: of any answer that holds it, else asked for. */
  async function mapOf(head) {
    const common = settings();
    const bundle = `bundle?${common}&${letterOf(head)}&${state.window || ""}`;
    const answers = found(bundle) || [];
    for (const answer of answers) if (answer.find(head)) return answer.find(head);
    const answer = await numbers("maps", `${common}&head=${head}&window=${state.window || ""}`, window.AttnLens.unpackMaps);
    keep(bundle, [...(found(bundle) || []), answer].slice(-MOST_ANSWERS), answer.bytes);
    return answer.find(head);
  }

  async function mapsToDraw() {
    if (state.measure) {
      const query = `${settings()}&head=${state.head}&measure=${encodeURIComponent(state.measure)}`;
      const answer = await numbers("maps", query, window.AttnLens.unpackMaps);
      return [answer.find(answer.header.names[0])];
    }
    if (isCombined()) {
      const query = `${settings()}&head=${state.head}&also=${others().join(",")}&combine=${state.combine}&window=${state.window || ""}`;
      const answer = await numbers("maps", query, window.AttnLens.unpackMaps);
      return [answer.find(answer.header.names[0])];
    }
    return Promise.all([state.head, ...others()].map(mapOf));
  }

  function message(id, text) {
    const host = document.getElementById(id);
    if (!host) return;
    let line = host.querySelector(":scope > .draw-message");
    if (!line) {
      line = document.createElement("p");
      line.className = "draw-message";
      line.setAttribute("role", "alert");
      host.prepend(line);
    }
    line.textContent = text;
    line.hidden = !text;
  }

  function followedPlace() {
    const { query } = state;
    return query && query.of === (state.words === "words") ? query.position : null;
  }

  /* The link that is selected, as positions of its query and its key. */
  function selectedEdge() {
    const { key } = state;
    const from = followedPlace();
    return from !== null && key && key.of === (state.words === "words") ? [from, key.position] : null;
  }

  function count(n, one) {
    return `${n.toLocaleString("en-US")} ${one}${n === 1 ? "" : "s"}`;
  }

  function note(id, text) {
    const line = document.getElementById(id);
    if (line) line.textContent = text;
  }

  /* Small squares with names beside them. */
  function legend(id, entries) {
    const host = document.getElementById(id);
    if (!host) return;
    host.replaceChildren(
      ...entries.map(([colour, text]) => {
        const entry = document.createElement("span");
        const square = document.createElement("i");
        square.style.background = colour;
        entry.append(square, document.createTextNode(text));
        return entry;
      }),
    );
  }

  function drawPattern(maps) {
    const { AttnLens } = window;
    const followed = followedPlace();
    const stored = (place) => ({ data: place === null ? null : { position: place, of: state.words === "words" } });
    const follow = (place) => {
      set("key", { data: null });
      set("query", stored(place));
    };
    const select = (query, key) => {
      set("query", stored(query));
      set("key", stored(key));
      set("details", { data: true });
    };
    const links = view("links", (host) => AttnLens.tokenLinks(host, { follow, select }));
    const matrix = view("matrix", (host) => AttnLens.matrix(host, { select }));
    if (!links || !matrix) return;
    const [map] = maps;
    drawOverview(map);
    const edge = selectedEdge();
    const n = links.show({ maps, threshold: state.threshold, top: state.top || 0, followed, edge });
    matrix.show({ map, followed, edge });
    const rule = `weight ${Number(state.threshold).toFixed(2)} or more${state.top ? `, the ${state.top} strongest of each token` : ""}`;
    const weights = maps.reduce((sum, one) => sum + AttnLens.visibleCells(one), 0);
    note("links-caption", `${map.caption} ${count(n, "line")} of ${count(weights, "weight")}: ${rule}.`);
    note("matrix-caption", map.caption);
    legend("head-legend", maps.length > 1 ? maps.map((one, i) => [`var(--al-head-${i})`, one.name]) : []);
    drawTables(map);
    drawDrawer(map);
  }

  /* What is known of what is selected, from the numbers that are here. */
  function drawDrawer(map) {
    if (!state.details) {
      window.AttnLens.drawer.show(null);
      return;
    }
    const answers = state.measure || isCombined() ? [] : found(`bundle?${settings()}&${letterOf(state.head)}&${state.window || ""}`) || [];
    const together = answers.find((answer) => answer.find(state.head)) || null;
    const cells = cellsNow();
    window.AttnLens.drawer.show({
      map,
      maps: together && selectedEdge() ? together.header.names.map((name) => together.find(name)) : [],
      title: map.name,
      cell: cells.heads[state.head],
      labels: cells.labels ? cells.labels[state.head] : null,
      tested: Boolean(cells.labels),
      place: followedPlace(),
      edge: selectedEdge(),
    });
  }

  /* Of a long text: the whole map in small, and which part of it the pictures show. */
  async function drawOverview(map) {
    const host = document.getElementById("overview");
    if (!host) return;
    host.parentElement.classList.toggle("is-long", Boolean(map.window));
    if (!map.window) return;
    const own = ticket;
    const look = (window) => set("window", { data: `${window[0]}-${window[1]},${window[2]}-${window[3]}` });
    const picture = view("overview", (place) => window.AttnLens.overview(place, { look }));
    const query = `${new URLSearchParams(state.run.request)}&head=${state.head}`;
    try {
      const answer = await numbers("overview", query, window.AttnLens.unpackThumbnails);
      if (own !== ticket) return;
      message("overview", "");
      picture.show({ picture: [...answer.pictures.values()][0], size: map.size, window: map.window });
    } catch (error) {
      message("overview", `This could not be drawn: ${error.message}`);
    }
  }

  function drawTables(map) {
    const { AttnLens } = window;
    const strongest = document.getElementById("strongest");
    if (strongest) {
      const rows = AttnLens.strongest(map, N_STRONGEST).map(([row, column, weight]) => [
        map.rows.labels[row], map.columns.labels[column], AttnLens.digits(weight, ""),
      ]);
      const kinds = ["", "", "number"];
      AttnLens.table(strongest, `The strongest links of ${map.name}.`, ["from", "to", map.unit || "weight"], rows, kinds);
    }
    const place = document.getElementById("matrix-table");
    const details = place && place.closest("details");
    if (!details) return;
    const fill = () => details.open && writeMatrix(place, map);
    details.ontoggle = fill;
    fill();
  }

  function writeMatrix(place, map) {
    const { rows, columns } = map;
    if (Math.max(rows.labels.length, columns.labels.length) > MAX_TABLE) {
      place.textContent = `${rows.labels.length} rows are too many for a page; attnlens capture writes them to a file.`;
      return;
    }
    const cells = rows.labels.map((label, row) => [
      label, ...columns.labels.map((_, at) => (Number.isNaN(map.weight(row, at)) ? "–" : map.weight(row, at).toFixed(4))),
    ]);
    const kinds = ["", ...columns.labels.map(() => "number")];
    window.AttnLens.table(place, `${map.name}: rows attend to columns.`, ["from \\ to", ...columns.labels], cells, kinds);
  }

  /* What the server has said about the heads of this run and stack; until then a map without numbers. */
  function cellsNow() {
    const { run, head } = state;
    const fits = cells && cells.letter === letterOf(head) && JSON.stringify(cells.of) === JSON.stringify(run.request);
    const stack = run.stacks.find(({ letter }) => letter === letterOf(head)) || run;
    return fits ? cells : { n_layers: stack.n_layers, n_heads: stack.n_heads, heads: {}, name: "", categories: [], pending: true };
  }

  /* A head at once, before the page's other parts have heard of it. */
  function showHead(name) {
    if (!state || !state.run || !state.theme || !document.getElementById("links")) return;
    state = { ...state, head: name };
    draw();
  }

  function choose(name) {
    showHead(name);
    set("head", { value: name });
  }

  function overlay(name) {
    if (name === state.head) return;
    const present = state.also || [];
    set("also", { value: present.includes(name) ? present.filter((other) => other !== name) : [...present, name].slice(-15) });
  }

  function drawGrid(pictures) {
    const grid = view("head-map", (host) => window.AttnLens.headGrid(host, { choose, overlay }));
    if (!grid) return;
    const known = cellsNow();
    grid.show({
      cells: known, pictures, selected: state.head, others: others(), letter: letterOf(state.head), theme: state.theme, version,
    });
    if (known.pending) return;
    const host = document.getElementById("head-map-legend");
    if (!host) return;
    if (known.name) {
      legend("head-map-legend", [["linear-gradient(90deg, var(--al-seq-0), var(--al-seq-3), var(--al-seq-5), var(--al-seq-7), var(--al-seq-10))", ""]]);
      host.firstChild.classList.add("scale");
      host.firstChild.prepend(document.createTextNode(known.low));
      host.firstChild.append(document.createTextNode(`${known.high}${known.unit ? " " + known.unit : ""}`));
      const name = document.createElement("span");
      name.textContent = `frame: ${known.name}`;
      host.prepend(name);
    } else legend("head-map-legend", known.categories.map(([key, name]) => [`var(--al-cat-${key})`, name]));
  }

  function picturesOf() {
    return `${settings()}&stack=${letterOf(state.head)}`;
  }

  /* Pictures of every head, layer by layer where the text is long; each part is drawn when it comes. */
  async function fillGrid(own) {
    const common = picturesOf();
    const pictures = new Map();
    let next = 0;
    while (next !== null && own === ticket) {
      const part = await numbers("thumbnails", `${common}&from=${next}`, window.AttnLens.unpackThumbnails);
      if (own !== ticket) return;
      for (const [name, picture] of part.pictures) pictures.set(name, picture);
      next = part.next;
      version += 1;
      drawGrid(pictures);
    }
    grid = { of: common, pictures };
  }

  let grid = null; // the pictures that are complete

  /* Of a long text the head comes first, and then the many pictures; of a short one all are asked for at once. */
  function first(pattern) {
    return state.run.n_tokens > SHORT ? pattern : Promise.resolve();
  }

  async function draw() {
    ticket += 1;
    const own = ticket;
    const common = picturesOf();
    const pattern = mapsToDraw().then(
      (maps) => {
        if (own !== ticket) return;
        message("links", "");
        message("matrix", "");
        drawPattern(maps);
      },
      (error) => {
        if (own !== ticket) return;
        for (const id of ["links", "matrix"]) message(id, `This could not be drawn: ${error.message}`);
      },
    );
    if (grid && grid.of === common) drawGrid(grid.pictures);
    else await first(pattern).then(() => fillGrid(own)).then(() => message("head-map", ""), (error) => message("head-map", `This could not be drawn: ${error.message}`));
    await pattern;
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.attnlens = Object.assign({}, window.dash_clientside.attnlens, {
    prefix() {
      const config = document.getElementById("_dash-config");
      return config ? JSON.parse(config.textContent).requests_pathname_prefix : "/";
    },

    showHead,

    /* Numbers come when they come; the pictures do not wait for them. */
    drawCells(said) {
      cells = said;
      if (state && state.run && state.head && grid && grid.of === picturesOf()) drawGrid(grid.pictures);
      return window.dash_clientside.no_update;
    },

    drawHeads(...values) {
      const inputs = window.dash_clientside.callback_context.inputs_list.flat();
      state = Object.fromEntries(inputs.map(({ id, value }) => [id, value]));
      if (state.run && state.head && state.theme && values.length) draw();
      return window.dash_clientside.no_update;
    },
  });
})();
