/* One head step by step: a row per key, a column per step, and a slider that goes through them. */
(function () {
  "use strict";

  const BOARD = "steps-board";

  function go(key) {
    window.dash_clientside.set_props("steps-step", { data: key });
  }

  document.addEventListener("click", (event) => {
    const chip = event.target.closest && event.target.closest("#steps-tokens .token-chip");
    if (chip) window.dash_clientside.set_props("steps-at", { data: Number(chip.dataset.at) });
  });

  /* Slider, buttons and the names of the steps. They are made once per list of steps, so that they keep the focus. */
  function stepper(steps) {
    const { made } = window.attnlens_strips;
    const bar = made("div", "stepper");
    const slider = made("input", "step-slider");
    Object.assign(slider, { type: "range", min: 0, max: steps.length, step: 1 });
    slider.setAttribute("aria-label", "Step");
    const keys = [...steps.map((step) => step.key), ""];
    const names = [...steps.map((step) => step.title), "All at once"];
    slider.addEventListener("input", () => go(keys[Number(slider.value)]));
    const list = made("div", "step-names");
    keys.forEach((key, place) => {
      const button = made("button", "step-name", key ? `${place + 1} ${names[place]}` : names[place]);
      button.type = "button";
      button.dataset.key = key;
      button.addEventListener("click", () => go(key));
      list.append(button);
    });
    const moved = (by) => () => go(keys[(Number(slider.value) + by + keys.length) % keys.length]);
    const [back, next] = [made("button", "chip", "‹ Back"), made("button", "chip", "Next ›")];
    back.addEventListener("click", moved(-1));
    next.addEventListener("click", moved(1));
    for (const button of [back, next]) button.type = "button";
    const line = made("div", "stepper-line");
    line.append(back, slider, next);
    bar.append(line, list);
    bar.dataset.keys = keys.join(" ");
    return bar;
  }

  function showPlace(bar, key, names) {
    const place = bar.dataset.keys.split(" ").indexOf(key);
    const slider = bar.querySelector("input");
    slider.value = place;
    slider.setAttribute("aria-valuetext", names[place]);
    for (const button of bar.querySelectorAll(".step-name")) {
      const chosen = button.dataset.key === key;
      button.classList.toggle("is-chosen", chosen);
      if (chosen) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    }
  }

  /* The sentence, the formula, the numbers and the vectors of the step. */
  function told(step, ink, place) {
    const { made, strip } = window.attnlens_strips;
    const part = made("div", "told");
    const title = made("h3", "part-title");
    title.append(made("span", "step-number", place + 1), step.title);
    if (step.gap) title.append(made("span", step.gap.startsWith("recomputes") ? "gap passed" : "gap failed", step.gap));
    part.append(title, made("p", "sentence", step.sentence));
    if (step.formula) part.append(made("p", "formula", step.formula));
    if (step.facts.length) {
      const figures = made("dl", "figures");
      for (const [name, value] of step.facts) {
        const figure = made("div");
        figure.append(made("dt", "", name), made("dd", "", value));
        figures.append(figure);
      }
      part.append(figures);
    }
    for (const vector of step.vectors) {
      const row = made("div", "vector-row");
      row.append(made("span", "vector-name", `${vector.name}, ${vector.values.length} numbers`), strip(vector.values, vector.reach, vector.name, ink));
      part.append(row);
    }
    return part;
  }

  function cell(column, value, label, ink) {
    const { made, number, strip } = window.attnlens_strips;
    const td = made("td", column.kind);
    if (column.kind === "vector") td.append(strip(value, column.reach, `${column.name} of ${label}`, ink));
    else if (column.kind === "seen") td.textContent = value ? "✓" : "hidden";
    else if (column.kind === "weight" && value !== null) {
      const bar = made("span", "weight-bar");
      bar.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
      td.append(bar, made("span", "weight-number", value.toFixed(3)));
    } else td.textContent = value === null && column.key !== "added" ? "hidden" : number(value);
    return td;
  }

  /* A row over (the query) or under (the sum) the keys: its vectors stand in the columns that they belong to. */
  function vectorRow(data, below, name, ink, extra) {
    const { made, strip } = window.attnlens_strips;
    const vectors = data.steps.flatMap((step) => step.vectors).filter((vector) => vector.column && Boolean(vector.below) === below);
    const row = made("tr", below ? "sum-row" : "query-row");
    const head = made("th", "", name);
    head.scope = "row";
    row.append(head);
    for (const column of data.columns) {
      const td = made("td", column.kind);
      td.dataset.column = column.key;
      const vector = vectors.find((one) => one.column === column.key);
      if (vector) td.append(strip(vector.values, vector.reach, vector.name, ink));
      else if (extra[column.key] !== undefined) td.textContent = extra[column.key];
      row.append(td);
    }
    return row;
  }

  function board(data, ink) {
    const { made } = window.attnlens_strips;
    const table = made("table", "board");
    table.append(made("caption", "", data.title));
    const top = made("tr");
    top.append(made("th", "", "key"));
    for (const column of data.columns) {
      const th = made("th", column.kind, column.name);
      th.scope = "col";
      th.dataset.column = column.key;
      top.append(th);
    }
    const body = made("tbody");
    body.append(vectorRow(data, false, `query: ${data.query}`, ink, {}));
    data.labels.forEach((label, row) => {
      const tr = made("tr");
      const head = made("th", "token", label);
      head.scope = "row";
      head.title = `token ${data.positions[row]}`;
      tr.append(head);
      for (const column of data.columns) {
        const td = cell(column, column.values[row], label, ink);
        td.dataset.column = column.key;
        tr.append(td);
      }
      const seen = data.columns.find((column) => column.key === "seen");
      if (seen && !seen.values[row]) tr.classList.add("is-masked");
      body.append(tr);
    });
    const weights = data.columns.find((column) => column.key === "weights");
    const total = data.steps.find((step) => step.key === "weights").facts[0][1];
    body.append(vectorRow(data, true, "sum", ink, weights ? { weights: total } : {}));
    const head = made("thead");
    head.append(top);
    table.append(head, body);
    const frame = made("div", "board-frame");
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Steps of every key");
    frame.append(table);
    if (data.left_out) frame.append(made("p", "note", data.left_out));
    return frame;
  }

  /* What is not computed yet is blank; what the step makes stands out. */
  function reveal(frame, data, key) {
    const place = data.steps.findIndex((step) => step.key === key);
    const made = new Set(place < 0 ? data.columns.map((column) => column.key) : data.steps.slice(0, place + 1).flatMap((step) => step.columns));
    const now = new Set(place < 0 ? [] : data.steps[place].columns);
    for (const part of frame.querySelectorAll("[data-column]")) {
      part.classList.toggle("is-later", !made.has(part.dataset.column));
      part.classList.toggle("is-now", now.has(part.dataset.column));
    }
    const first = frame.querySelector("th.is-now");
    if (first) frame.scrollLeft = Math.max(0, first.offsetLeft - frame.clientWidth / 2);
  }

  let drawn = { data: null, theme: null };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    inside_head: {
      draw(data, key, theme) {
        const room = document.getElementById(BOARD);
        const none = window.dash_clientside.no_update;
        if (!room) return none;
        if (!data) {
          room.replaceChildren();
          return none;
        }
        const { inks, made } = window.attnlens_strips;
        const ink = inks();
        const known = data.steps.some((step) => step.key === key) ? key : "";
        const keys = [...data.steps.map((step) => step.key), ""].join(" ");
        let bar = room.querySelector(".stepper");
        if (!bar || bar.dataset.keys !== keys) {
          bar = stepper(data.steps);
          room.replaceChildren(bar, made("div", "told-place"), made("div", "board-place"));
          drawn = { data: null, theme: null };
        }
        showPlace(bar, known, [...data.steps.map((step) => step.title), "All at once"]);
        const at = data.steps.findIndex((step) => step.key === known);
        const places = room.querySelector(".told-place");
        places.setAttribute("role", "status");
        places.replaceChildren(...(at < 0 ? [made("p", "sentence", `All ${data.steps.length} steps at once. Each column is made of those to its left; choose a step above to have it explained.`)] : [told(data.steps[at], ink, at)]));
        const frame = room.querySelector(".board-place");
        if (drawn.data !== data || drawn.theme !== theme || !frame.firstChild) {
          frame.replaceChildren(board(data, ink));
          drawn = { data, theme };
        }
        reveal(frame.firstChild, data, known);
        return none;
      },
    },
  });
})();
