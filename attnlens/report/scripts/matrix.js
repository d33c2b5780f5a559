/* One map as a matrix: a row for each token that attends, every weight exact under the pointer; hidden cells hatched. */
(function () {
  "use strict";

  const SMALLEST_TEXT = 11;
  const FOOT = 34;

  /* matrix(host, {select(query, key)}).show({map, followed, edge}); `select` and `edge` may be left out. */
  function matrix(host, on) {
    const { AttnLens } = window;
    let shown = null;
    let place = null;
    let cursor = null; // the cell under the pointer, or that the arrow keys have reached
    const base = document.createElement("canvas");
    const surface = AttnLens.surface(host, "Attention matrix: a row per query, a column per key", draw);
    const { canvas } = surface;
    host.tabIndex = 0;

    function draw() {
      if (!shown) return;
      const { map } = shown;
      const colours = AttnLens.colours();
      const width = surface.width();
      const measuring = surface.fit(width, 10);
      measuring.font = `13px ${colours.font}`;
      const longest = (labels) => Math.min(130, labels.reduce((w, label) => Math.max(w, measuring.measureText(label || "∅").width), 0));
      const left = Math.min(width * 0.3, longest(map.rows.labels)) + 12;
      const top = longest(map.columns.labels) + 12;
      const n = Math.max(1, map.columns.labels.length);
      const cell = Math.min(34, (width - left - 4) / n, map.rows.labels.length > 64 ? 9 : 34);
      place = { left, top, cell, width };
      const height = top + cell * map.rows.labels.length;
      const context = surface.fit(width, height + FOOT);
      Object.assign(canvas.dataset, { left, top, cell });
      base.width = canvas.width;
      base.height = canvas.height;
      const ratio = canvas.width / width;
      const below = base.getContext("2d");
      below.setTransform(ratio, 0, 0, ratio, 0, 0);
      paintCells(below, colours);
      paintLabels(below, colours);
      paintScale(below, colours, height);
      stamp(context);
    }

    function paintCells(context, colours) {
      const { map } = shown;
      const { left, top, cell } = place;
      const gap = cell >= 8 ? 1 : 0;
      const hidden = [];
      map.rows.labels.forEach((_, row) => {
        map.columns.labels.forEach((__, column) => {
          const weight = map.weight(row, column);
          const box = [left + column * cell, top + row * cell, cell - gap, cell - gap];
          if (Number.isNaN(weight)) hidden.push(box);
          else {
            context.fillStyle = colourOf(colours, map, weight / map.high);
            context.fillRect(...box);
          }
        });
      });
      hatch(context, hidden, colours);
    }

    function hatch(context, boxes, colours) {
      const tile = document.createElement("canvas");
      tile.width = 6;
      tile.height = 6;
      const pen = tile.getContext("2d");
      pen.fillStyle = colours.named("not-visible");
      pen.fillRect(0, 0, 6, 6);
      pen.strokeStyle = colours.named("hatch");
      pen.beginPath();
      for (const shift of [-6, 0, 6]) {
        pen.moveTo(shift, 6);
        pen.lineTo(shift + 6, 0);
      }
      pen.stroke();
      context.fillStyle = context.createPattern(tile, "repeat");
      for (const box of boxes) context.fillRect(...box);
    }

    function paintLabels(context, colours) {
      const { left, top, cell } = place;
      const size = Math.min(13, Math.max(10, cell - 2));
      const step = Math.max(1, Math.ceil(SMALLEST_TEXT / cell));
      context.font = `${size}px ${colours.font}`;
      context.fillStyle = colours.named("ink");
      context.textBaseline = "middle";
      context.textAlign = "right";
      shown.map.rows.labels.forEach((label, row) => {
        if (row % step === 0) context.fillText(AttnLens.fitted(context, label, left - 8), left - 6, top + (row + 0.5) * cell);
      });
      context.textAlign = "left";
      shown.map.columns.labels.forEach((label, column) => {
        if (column % step) return;
        context.save();
        context.translate(left + (column + 0.5) * cell, top - 6);
        context.rotate(-Math.PI / 2);
        context.fillText(AttnLens.fitted(context, label, top - 8), 0, 0);
        context.restore();
      });
    }

    /* Of a difference, which has a sign: from its surface to one colour or the other. */
    function colourOf(colours, map, share) {
      return map.signed ? colours.signed(share) : colours.shade(share);
    }

    /* From no weight to the largest. */
    function paintScale(context, colours, height) {
      const { left } = place;
      const length = 120;
      for (let i = 0; i < length; i += 1) {
        context.fillStyle = colourOf(colours, shown.map, shown.map.signed ? (2 * i) / (length - 1) - 1 : i / (length - 1));
        context.fillRect(left + i, height + 14, 1.5, 8);
      }
      context.font = `12px ${colours.font}`;
      context.fillStyle = colours.named("muted");
      context.textAlign = "right";
      context.fillText(shown.map.signed ? `−${shown.map.high.toFixed(2)}` : "0", left - 6, height + 18);
      context.textAlign = "left";
      const end = shown.map.unit || shown.map.signed ? `${shown.map.high.toFixed(2)} ${shown.map.unit}`.trim() : "1";
      context.fillText(end, left + length + 7, height + 18);
    }

    function stamp(context) {
      const { left, top, cell, width } = place;
      const { map } = shown;
      context.clearRect(0, 0, width, canvas.height);
      context.drawImage(base, 0, 0, width, base.height / (base.width / width));
      const colours = AttnLens.colours();
      const across = cell * map.columns.labels.length;
      const down = cell * map.rows.labels.length;
      context.strokeStyle = colours.named("accent");
      context.lineWidth = 2;
      const row = map.rows.places.indexOf(shown.followed);
      const column = map.columns.places.indexOf(shown.followed);
      if (row >= 0) context.strokeRect(left - 1, top + row * cell - 1, across + 1, cell + 1);
      if (column >= 0) context.strokeRect(left + column * cell - 1, top - 1, cell + 1, down + 1);
      const chosen = shown.edge && [map.rows.places.indexOf(shown.edge[0]), map.columns.places.indexOf(shown.edge[1])];
      if (chosen && Math.min(...chosen) >= 0) {
        context.lineWidth = 3;
        context.strokeRect(left + chosen[1] * cell - 1, top + chosen[0] * cell - 1, cell + 1, cell + 1);
      }
      if (!cursor) return;
      context.strokeStyle = colours.named("ink");
      context.lineWidth = 1.5;
      context.strokeRect(left + cursor.column * cell - 0.5, top + cursor.row * cell - 0.5, cell, cell);
    }

    function about({ row, column }) {
      const { map } = shown;
      const weight = map.weight(row, column);
      const shownWeight = Number.isNaN(weight) ? AttnLens.digits(weight) : `${map.signed ? "difference" : "weight"} ${AttnLens.digits(weight, map.unit)}`;
      return (
        `from ${map.rows.labels[row]} (${map.rows.places[row]})\n` +
        `to ${map.columns.labels[column]} (${map.columns.places[column]})\n${shownWeight}`
      );
    }

    function move(next) {
      cursor = next;
      stamp(canvas.getContext("2d"));
    }

    function inside(row, column) {
      return shown && row >= 0 && column >= 0 && row < shown.map.rows.labels.length && column < shown.map.columns.labels.length;
    }

    canvas.addEventListener("pointermove", (event) => {
      if (!shown || !place) return;
      const box = canvas.getBoundingClientRect();
      const x = event.clientX - box.left;
      const y = event.clientY - box.top;
      const row = Math.floor((y - place.top) / place.cell);
      const column = Math.floor((x - place.left) / place.cell);
      if (!inside(row, column)) {
        surface.unpoint();
        if (cursor) move(null);
        return;
      }
      if (!cursor || cursor.row !== row || cursor.column !== column) move({ row, column });
      surface.point(about(cursor), x, y);
    });
    function selectAt({ row, column }) {
      if (on && on.select) on.select(shown.map.rows.places[row], shown.map.columns.places[column]);
    }

    canvas.addEventListener("click", () => shown && cursor && selectAt(cursor));
    canvas.addEventListener("pointerleave", () => {
      surface.unpoint();
      if (shown && place) move(null);
    });
    host.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && shown && cursor) {
        event.preventDefault();
        selectAt(cursor);
        return;
      }
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const step = steps[event.key];
      if (!shown || !place || !step) return;
      event.preventDefault();
      const next = cursor ? { row: cursor.row + step[0], column: cursor.column + step[1] } : { row: 0, column: 0 };
      if (!inside(next.row, next.column)) return;
      move(next);
      const { left, top, cell } = place;
      surface.point(about(next), left + (next.column + 0.5) * cell, top + (next.row + 0.5) * cell);
      surface.say(about(next));
    });

    return {
      show(given) {
        shown = given;
        cursor = null;
        surface.unpoint();
        surface.soon();
      },
    };
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { matrix });
})();
