/* What every report does: its theme, tables that are built when they are opened, cards, print. */
(function () {
  "use strict";

  const { AttnLens } = window;
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const data = JSON.parse(byId("data").textContent);

  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

  /* What the colours of a map's frames stand for: name, both ends of the scale, and a line that explains it. */
  const scaleLegend = (name, low, high, description) => {
    const part = (tag, kind, text) => {
      const made = document.createElement(tag);
      made.className = kind;
      made.textContent = text;
      return made;
    };
    return [part("span", "", `Frame: ${name}, ${low}`), part("i", "scale", ""), part("span", "", high), part("span", "explained", description)];
  };

  function startTheme() {
    const button = byId("theme");
    let before; // the theme while the page is being printed, which is always light
    const follow = () => {
      button.textContent = dark() ? "Light" : "Dark";
      AttnLens.redraw();
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      follow();
    });
    prefersDark.addEventListener("change", follow);
    addEventListener("beforeprint", () => {
      before = root.dataset.theme;
      root.dataset.theme = "light";
      for (const part of document.querySelectorAll("details.inprint")) {
        part.open = true;
        fillCard(part);
      }
      AttnLens.redraw();
    });
    addEventListener("afterprint", () => {
      if (before) root.dataset.theme = before;
      else delete root.dataset.theme;
      follow();
    });
    follow();
  }

  /* Calls `fill(place)` whenever the details element with this id is open: now, when it is opened, and on `again()`. */
  function onDemand(id, fill) {
    const details = byId(id);
    if (!details) return () => {};
    const place = details.querySelector(".place");
    const again = () => (details.open ? fill(place) : place.replaceChildren());
    details.addEventListener("toggle", again);
    again();
    return again;
  }

  /* A table of the document, from {caption, columns, rows}; a number stands to the right, null is a dash. */
  function fillTable(place, { caption, columns, rows }) {
    const kinds = columns.map((_, at) => (rows.some((row) => typeof row[at] === "number") ? "number" : ""));
    AttnLens.table(place, caption, columns, rows.map((row) => row.map(cellText)), kinds);
  }

  function cellText(value) {
    if (value === null) return "–";
    if (typeof value !== "number") return String(value);
    return Number.isInteger(value) ? value.toLocaleString("en-US") : value.toFixed(4).replace("-", "−");
  }

  /* What a card holds stands in a noscript element, so that a page without script has it all; opened once. */
  function fillCard(card) {
    const held = card.querySelector(":scope > noscript");
    if (!held) return;
    const body = document.createElement("div");
    body.className = "body";
    body.append(...new DOMParser().parseFromString(held.textContent, "text/html").body.childNodes);
    held.replaceWith(body);
  }

  function startCards() {
    const cards = Array.from(document.querySelectorAll("details.card"));
    for (const card of cards) {
      card.addEventListener("toggle", () => card.open && fillCard(card));
      if (card.open) fillCard(card);
    }
    const openHash = () => {
      const card = byId(decodeURIComponent(location.hash.slice(1)).toUpperCase());
      if (!card || !cards.includes(card)) return;
      fillCard(card);
      card.open = true;
      card.scrollIntoView();
    };
    openHash();
    addEventListener("hashchange", openHash);
    const all = byId("open-all");
    if (!all) return;
    all.hidden = false;
    all.addEventListener("click", () => {
      const open = cards.some((card) => !card.open);
      for (const card of cards) card.open = open;
      all.textContent = open ? "Close all" : "Open all";
    });
  }

  function startTables() {
    for (const [id, table] of Object.entries(data.page.tables || {})) onDemand(id, (place) => fillTable(place, table));
  }

  /* A button that copies the text of the element it names. */
  function startCopying() {
    for (const button of document.querySelectorAll("button[data-copy]")) {
      if (!navigator.clipboard) continue;
      button.hidden = false;
      button.addEventListener("click", () =>
        navigator.clipboard.writeText(byId(button.dataset.copy).textContent).then(
          () => (button.textContent = "Copied"),
          () => (button.textContent = "Select and copy"),
        ),
      );
    }
  }

  /* A head map by keyboard: from a head the nearest one in the arrow's direction that `holds`; null for other keys. */
  function walked(event, from, { n_layers, n_heads }, holds) {
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!way) return null;
    event.preventDefault();
    const [, letter, ...place] = /^([EDX]?)L(\d+)H(\d+)$/.exec(from);
    let [layer, head] = place.map(Number);
    for (;;) {
      layer += way[0];
      head += way[1];
      if (layer < 0 || head < 0 || layer >= n_layers || head >= n_heads) return null;
      if (holds(`${letter}L${layer}H${head}`)) return `${letter}L${layer}H${head}`;
    }
  }

  function ready() {
    startTables();
    startCards();
    startCopying();
    startTheme();
    root.dataset.ready = "yes";
  }

  window.AttnLens = Object.assign(AttnLens, { data, byId, onDemand, fillTable, walked, ready, scaleLegend });
})();
