/* All heads of a layer for one word: whom each looks at, what each adds, and how they are put together. */
(function () {
  "use strict";

  document.addEventListener("click", (event) => {
    const chip = event.target.closest && event.target.closest("#beside-tokens .token-chip, #beside-board .looked");
    if (chip) window.dash_clientside.set_props("beside-at", { data: Number(chip.dataset.at) });
    const head = event.target.closest && event.target.closest("#beside-board .head-name");
    if (head) window.dash_clientside.set_props("head", { value: head.dataset.head });
  });

  function words(data, head) {
    const { made } = window.attnlens_strips;
    const line = made("div", "looked-line");
    data.labels.forEach((label, place) => {
      const weight = data.weights[head][place];
      const own = data.query !== null;
      const word = made(own ? "button" : "span", weight === null ? "looked is-masked" : "looked", label);
      if (own) {
        word.type = "button";
        word.dataset.at = data.positions[place];
        word.tabIndex = -1;
      }
      if (place === data.query) word.classList.add("is-query");
      if (weight !== null) {
        word.style.setProperty("--weight", `${Math.round(100 * weight)}%`);
      }
      word.title = weight === null ? `${label}: hidden` : `${label}: ${(100 * weight).toFixed(1)} %`;
      line.append(word);
    });
    return line;
  }

  function bar(value, widest, text) {
    const { made } = window.attnlens_strips;
    const td = made("td", "bar-cell");
    const fill = made("span", value < 0 ? "add-bar is-below" : "add-bar");
    fill.style.width = `${(100 * Math.abs(value)) / widest}%`;
    const room = made("span", "add-room");
    room.append(fill);
    td.append(room, made("span", "add-number", text));
    return td;
  }

  function share(value) {
    return `${(100 * value).toFixed(1).replace("-", "−")} %`;
  }

  function board(data) {
    const { made, number } = window.attnlens_strips;
    const table = made("table", "board beside");
    table.append(made("caption", "", data.title));
    const top = made("tr");
    for (const name of ["head", "looks at", "length", "cosine", "share of the output"]) {
      const th = made("th", "", name);
      th.scope = "col";
      top.append(th);
    }
    const head = made("thead");
    head.append(top);
    const body = made("tbody");
    data.names.forEach((name, place) => {
      const row = made("tr", place === data.chosen ? "is-chosen" : "");
      const title = made("th");
      title.scope = "row";
      const button = made("button", "head-name", name);
      button.type = "button";
      button.dataset.head = name;
      button.setAttribute("aria-pressed", String(place === data.chosen));
      title.append(button);
      const look = made("td", "looks");
      look.append(words(data, place));
      row.append(title, look, bar(data.lengths[place], data.longest, number(data.lengths[place])), made("td", "number", number(data.cosines[place])), bar(data.shares[place], data.widest, share(data.shares[place])));
      body.append(row);
    });
    if (data.bias_share !== null) {
      const row = made("tr", "sum-row");
      row.append(made("th", "", "bias"), made("td"), made("td"), made("td"), bar(data.bias_share, Math.max(data.widest, Math.abs(data.bias_share)), share(data.bias_share)));
      body.append(row);
    }
    table.append(head, body);
    const frame = made("div", "board-frame");
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Heads side by side");
    frame.append(table);
    return frame;
  }

  /* What the heads put out, side by side at their widths, and the layer's output under it. */
  function split(data, ink) {
    const { made, strip } = window.attnlens_strips;
    const each = data.outputs[0].length;
    const whole = each * data.names.length;
    const side = made("div", "split-heads");
    data.outputs.forEach((values, place) => {
      const part = made("div", place === data.chosen ? "split-head is-chosen" : "split-head");
      part.append(made("span", "split-name", data.names[place].replace(/^.*H/, "H")), strip(values, data.reach, `what ${data.names[place]} puts out`, ink));
      side.append(part);
    });
    const output = made("div", "split-output");
    output.append(strip(data.total, data.total_reach, "output of the layer's attention", ink));
    return [
      made("p", "sentence", `Each of the ${data.names.length} heads puts out ${each} numbers. Side by side they are ${data.names.length} × ${each} = ${whole}:`),
      side,
      made("p", "split-arrow", `↓ W_O, ${whole} × ${data.total.length}: every head's numbers meet their own ${each} rows of it`),
      output,
      made("p", "note", `The output of the layer's attention, ${data.total.length} numbers, which are added to the stream.`),
    ];
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    inside_heads: {
      draw(data) {
        const [room, below] = ["beside-board", "beside-split"].map((id) => document.getElementById(id));
        if (room && below) {
          room.replaceChildren(...(data ? [board(data)] : []));
          below.replaceChildren(...(data ? split(data, window.attnlens_strips.inks()) : []));
        }
        return window.dash_clientside.no_update;
      },
    },
  });
})();
