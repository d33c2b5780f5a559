/* The numbers of a picture as a table of the document; every text is set as text. */
(function () {
  "use strict";

  function element(tag, text, attributes) {
    const made = document.createElement(tag);
    if (text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    return made;
  }

  function line(cells, first, kinds) {
    const row = document.createElement("tr");
    cells.forEach((cell, i) => {
      const heads = first === "col" || i === 0;
      const made = element(heads ? "th" : "td", null, heads ? { scope: first === "col" ? "col" : "row" } : {});
      if (kinds[i]) made.className = kinds[i];
      made.append(element("bdi", cell === "" ? "∅" : cell));
      row.append(made);
    });
    return row;
  }

  /* Fills `host` with a table; cells are texts. Columns whose kind is "number" stand to the right. */
  function table(host, caption, columns, rows, kinds) {
    const made = element("table", null, { class: "data" });
    const head = document.createElement("thead");
    head.append(line(columns, "col", kinds));
    const body = document.createElement("tbody");
    for (const row of rows) body.append(line(row, "row", kinds));
    made.append(head, body);
    const frame = element("div", null, { class: "table-frame", tabindex: "0", role: "region", "aria-label": caption });
    frame.append(made);
    host.replaceChildren(frame);
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { table });
})();
