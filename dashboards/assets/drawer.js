/* The drawer beside the stage: what the numbers that are here say about the selected head, token and link. */
(function () {
  "use strict";

  const N_HEAD = 3; // strongest links of a head
  const N_TOKEN = 5; // on each side of a token
  const seen = new WeakSet(); // drawers that were drawn before, open or not

  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  /* Tokens and labels are strangers' text: shown as text, apart from what stands around them. */
  function isolated(text) {
    const part = document.createElement("bdi");
    part.textContent = text === "" ? "∅" : text;
    return part;
  }

  function token(axis, at) {
    return [isolated(axis.labels[at]), ` (${axis.places[at]})`];
  }

  function ordinal(n) {
    const ending = n % 100 >= 11 && n % 100 <= 13 ? "th" : ["th", "st", "nd", "rd"][n % 10] || "th";
    return n.toLocaleString("en-US") + ending;
  }

  /* "2nd of 11": the place of a value among others, equal ones sharing the best place. */
  function rank(value, others) {
    const seen = others.filter((other) => !Number.isNaN(other));
    return `${ordinal(1 + seen.filter((other) => other > value).length)} of ${seen.length.toLocaleString("en-US")}`;
  }

  function facts(rows) {
    const list = element("dl", "facts");
    for (const [name, ...said] of rows) list.append(element("dt", "", name), element("dd", "", ...said));
    return list;
  }

  function section(title, ...children) {
    return element("section", "drawer-part", element("h3", "", ...[title].flat()), ...children);
  }

  function digits(map, weight) {
    return window.AttnLens.digits(weight, map.unit);
  }

  function aboutHead({ map, cell, labels, tested }) {
    const found = (labels || []).map(([name, category, said]) => {
      const badge = element("span", `badge cat-${category}`, isolated(name));
      return element("li", "", badge, " ", element("span", "note", said));
    });
    const none = tested ? "Unclassified: no label passed its tests." : "No probe result is loaded: nothing has been tested on it.";
    const strongest = window.AttnLens.strongest(map, N_HEAD).map(([row, column, weight]) =>
      element("li", "", ...token(map.rows, row), " → ", ...token(map.columns, column), element("span", "number", digits(map, weight))),
    );
    const measured = cell && cell.lines.length ? element("p", "note", cell.lines[0]) : null;
    return section(
      "The head",
      found.length ? element("ul", "drawer-list", ...found) : element("p", "note", none),
      measured,
      strongest.length ? element("h4", "", "Its strongest links") : null,
      strongest.length ? element("ul", "drawer-list", ...strongest) : null,
    );
  }

  /* What a token attends to, or who attends to it; null where it is not on that side. */
  function side(map, which, at) {
    if (at < 0) return null;
    const other = which === "row" ? map.columns : map.rows;
    const rows = window.AttnLens.ranking(map, which, at, N_TOKEN).map(([to, weight]) =>
      element("li", "", ...token(other, to), element("span", "number", digits(map, weight))),
    );
    const title = which === "row" ? "attends to" : "is attended to by";
    return element("div", "", element("h4", "", title), element("ul", "drawer-list", ...rows));
  }

  function aboutToken({ map, place }) {
    const row = map.rows.places.indexOf(place);
    const column = map.columns.places.indexOf(place);
    if (row < 0 && column < 0) return section("The token", element("p", "note", `Token ${place} is not among those that are shown.`));
    const label = row >= 0 ? token(map.rows, row) : token(map.columns, column);
    return section(["The token ", ...label], side(map, "row", row), side(map, "column", column));
  }

  function aboutLink({ map, maps, edge }) {
    const row = map.rows.places.indexOf(edge[0]);
    const column = map.columns.places.indexOf(edge[1]);
    if (row < 0 || column < 0) return section("The link", element("p", "note", `Link ${edge[0]} → ${edge[1]} is not among those that are shown.`));
    const weight = map.weight(row, column);
    const rows = [
      ["From", ...token(map.rows, row)],
      ["To", ...token(map.columns, column)],
      ["Weight", digits(map, weight)],
    ];
    if (!Number.isNaN(weight)) {
      const inRow = map.columns.labels.map((_, at) => map.weight(row, at));
      rows.push(["In its row", rank(weight, inRow)], ["In this head", rank(weight, Array.from(map.weights))]);
      const others = maps.map((one) => [one.name, one.weight(row, column)]).filter(([, value]) => !Number.isNaN(value));
      if (others.length > 1) {
        const most = others.reduce((best, one) => (one[1] > best[1] ? one : best));
        rows.push(["Among heads", `${rank(weight, others.map(([, value]) => value))}; most in ${most[0]}, ${digits(map, most[1])}`]);
      }
    }
    const [from, to] = [map.rows.places.indexOf(edge[1]), map.columns.places.indexOf(edge[0])];
    const same = map.rows.labels[row] === map.columns.labels[map.columns.places.indexOf(edge[0])];
    if (same && from >= 0 && to >= 0 && edge[0] !== edge[1]) rows.push(["The way back", digits(map, map.weight(from, to))]);
    return section("The link", facts(rows));
  }

  /* Open or close it. The stage makes room; what one has clicked stays where it is on the screen. */
  function turn(host, open) {
    const card = document.querySelector(".head-card");
    const before = card.getBoundingClientRect().top;
    host.hidden = !open;
    if (seen.has(host)) window.scrollBy({ top: card.getBoundingClientRect().top - before, behavior: "instant" });
    seen.add(host);
  }

  /* Fill the drawer: {map, maps, title, cell, labels, tested, place, edge}; `maps` are of all heads that were sent together. */
  function show(given) {
    const host = document.getElementById("drawer");
    const button = document.getElementById("drawer-button");
    if (!host || !button) return;
    const open = given !== null;
    turn(host, open);
    button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    const close = element("button", "step", "×");
    close.type = "button";
    close.setAttribute("aria-label", "Close what is selected");
    close.dataset.closes = "drawer";
    const parts = [aboutHead(given)];
    if (given.edge) parts.unshift(aboutLink(given));
    if (given.place !== null) parts.splice(given.edge ? 1 : 0, 0, aboutToken(given));
    else parts.unshift(element("p", "note", "Click a token or a line of Links, or a cell of Matrix."));
    const held = host.contains(document.activeElement);
    host.replaceChildren(element("header", "drawer-head", element("h2", "card-title", isolated(given.title)), close), ...parts);
    if (held) close.focus();
  }

  function shut() {
    window.dash_clientside.set_props("details", { data: false });
    document.getElementById("drawer-button").focus();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-closes=drawer]")) shut();
    else if (event.target.closest("#drawer-button")) {
      const open = event.target.closest("#drawer-button").getAttribute("aria-expanded") === "true";
      window.dash_clientside.set_props("details", { data: !open });
    }
  });

  document.addEventListener("keydown", (event) => {
    const host = document.getElementById("drawer");
    if (event.key !== "Escape" || event.defaultPrevented || !host || host.hidden) return;
    if (event.target.closest('[aria-expanded="true"]:not(#drawer-button), details.menu[open], textarea')) return;
    shut();
  });

  window.AttnLens = Object.assign(window.AttnLens || {}, { drawer: { show } });
})();
