/* The token view: those that attend on the left, those attended to on the right, a line for each weight. */
(function () {
  "use strict";

  const TOP = 26;
  const APART = 8;
  const NUMBER = 36; // room for a weight beside a label
  const NEAR = 5; // pixels from a line at which it counts as pointed at
  const BINS = 8;

  function rowHeight(n) {
    return n <= 32 ? 24 : n <= 64 ? 18 : 14;
  }

  /*
   * tokenLinks(host, {follow(place), select(query, key)}).show({maps, threshold, top, followed, edge}); the first map is
   * the selected head's. Without `select` a click on a line does nothing.
   */
  function tokenLinks(host, on) {
    const { AttnLens } = window;
    let shown = null;
    let links = [];
    let place = null; // left, right and height of the picture
    let active = null; // {side, at} under the pointer
    const surface = AttnLens.surface(host, "Links from each token on the left to the tokens it attends to on the right", draw);
    const { canvas } = surface;
    host.tabIndex = 0;

    function draw() {
      if (!shown || !shown.maps.length) return;
      const [map] = shown.maps;
      const colours = AttnLens.colours();
      const n = Math.max(map.rows.labels.length, map.columns.labels.length);
      const row = rowHeight(n);
      const width = surface.width();
      const context = surface.fit(width, TOP + row * n + 6);
      const size = row >= 24 ? 14 : row >= 18 ? 12.5 : 11;
      context.font = `${size}px ${colours.font}`;
      context.textBaseline = "middle";
      const most = width * 0.32;
      const widest = (labels) => labels.reduce((best, label) => Math.max(best, context.measureText(label || "∅").width), 0);
      const left = Math.min(most, widest(map.rows.labels) + NUMBER) + APART;
      const right = width - Math.min(most, widest(map.columns.labels) + NUMBER) - APART;
      place = { left, right, row, size, width };
      Object.assign(canvas.dataset, { left, right, top: TOP, row });
      drawTitles(context, colours);
      drawLines(context, colours);
      drawLabels(context, colours, map.rows.labels, "row");
      drawLabels(context, colours, map.columns.labels, "column");
    }

    function drawTitles(context, colours) {
      context.font = `12px ${colours.font}`;
      context.fillStyle = colours.named("muted");
      context.textAlign = "right";
      context.fillText("from", place.left - APART, TOP / 2 - 2);
      context.textAlign = "left";
      context.fillText("to", place.right + APART, TOP / 2 - 2);
    }

    /* What is stressed: the token under the pointer alone, else the one that is followed, on both sides. */
    function focus() {
      if (active) return { [active.side]: active.at };
      if (shown.followed === null) return null;
      const [map] = shown.maps;
      const row = map.rows.places.indexOf(shown.followed);
      const column = map.columns.places.indexOf(shown.followed);
      if (row < 0 && column < 0) return null;
      return { ...(row >= 0 ? { row } : {}), ...(column >= 0 ? { column } : {}) };
    }

    function stressed(link, of) {
      return link.row === of.row || link.column === of.column;
    }

    function isSelected({ row, column }) {
      const [map] = shown.maps;
      return Boolean(shown.edge) && map.rows.places[row] === shown.edge[0] && map.columns.places[column] === shown.edge[1];
    }

    function y(at) {
      return TOP + place.row * (at + 0.5);
    }

    function drawLines(context, colours) {
      const of = focus();
      const several = shown.maps.length > 1;
      shown.maps.forEach((_, index) => {
        const plain = several ? colours.named("head-" + index) : colours.shade(0.68);
        const own = links.filter((link) => link.map === index);
        const drawn = own.filter((link) => link.drawn);
        if (!of) return stroke(context, drawn, plain, 1);
        if (!active) stroke(context, drawn.filter((link) => !stressed(link, of)), plain, 0.13);
        const outgoing = own.filter((link) => link.row === of.row);
        const incoming = own.filter((link) => link.row !== of.row && link.column === of.column);
        stroke(context, incoming, several ? plain : colours.shade(0.62), 1);
        stroke(context, outgoing, several ? plain : colours.named("accent"), 1);
        if (!active) stroke(context, outgoing.filter(isSelected), colours.named("accent"), 3);
        return undefined;
      });
    }

    /* Lines of similar weight are one path: width and strength grow with the weight. */
    function stroke(context, chosen, colour, strength) {
      const bins = Array.from({ length: BINS }, () => []);
      for (const link of chosen) bins[Math.min(BINS - 1, Math.floor(link.share * BINS))].push(link);
      const span = (place.right - place.left) / 3;
      context.strokeStyle = colour;
      bins.forEach((members, bin) => {
        if (!members.length) return;
        const share = (bin + 0.5) / BINS;
        context.globalAlpha = Math.min(1, (0.16 + 0.84 * share) * strength);
        context.lineWidth = 0.8 + 3.2 * share + (strength > 1 ? 2 : 0);
        context.beginPath();
        for (const link of members) {
          const from = y(link.row);
          const to = y(link.column);
          context.moveTo(place.left, from);
          context.bezierCurveTo(place.left + span, from, place.right - span, to, place.right, to);
        }
        context.stroke();
      });
      context.globalAlpha = 1;
    }

    function drawLabels(context, colours, labels, side) {
      const of = focus();
      const room = (side === "row" ? place.left : place.width - place.right) - APART;
      context.textAlign = side === "row" ? "right" : "left";
      labels.forEach((label, at) => {
        const own = of && of[side] === at;
        const weight = of ? linked(side, at, of) : null;
        context.font = `${own ? 650 : 400} ${place.size}px ${colours.font}`;
        context.fillStyle = own ? colours.named("accent") : colours.named(of && weight === null ? "faint" : "ink");
        let x = side === "row" ? place.left - APART : place.right + APART;
        let space = room;
        if (weight !== null && !own) {
          context.font = `600 ${place.size - 1.5}px ${colours.font}`;
          const number = weight.toFixed(2);
          context.fillText(number, x, y(at));
          const taken = context.measureText(number).width + 7;
          x += side === "row" ? -taken : taken;
          space -= taken;
          context.font = `400 ${place.size}px ${colours.font}`;
        }
        context.fillText(AttnLens.fitted(context, label, Math.max(space, 16)), x, y(at));
      });
    }

    /* The largest weight between a token and the stressed one on the other side; null where no line leads there. */
    function linked(side, at, of) {
      const other = side === "row" ? of.column : of.row;
      if (other === undefined) return null;
      const weights = shown.maps.map((map) => (side === "row" ? map.weight(at, other) : map.weight(other, at)));
      const best = Math.max(...weights.map((weight) => (Number.isNaN(weight) ? -1 : weight)));
      return best >= 0.05 * shown.maps[0].high ? best : null;
    }

    function under(event) {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    }

    function tokenAt({ x, y: height }) {
      if (!place) return null;
      const side = x < place.left ? "row" : x > place.right ? "column" : null;
      const at = Math.floor((height - TOP) / place.row);
      const [map] = shown.maps;
      if (!side || at < 0 || at >= (side === "row" ? map.rows : map.columns).labels.length) return null;
      return { side, at };
    }

    function lineAt({ x, y: height }) {
      const u = (x - place.left) / (place.right - place.left);
      if (u <= 0 || u >= 1) return null;
      const bend = u * u * (3 - 2 * u);
      let best = null;
      let nearest = NEAR;
      const of = focus();
      for (const link of links) {
        if (!(of && stressed(link, of)) && !link.drawn) continue;
        const distance = Math.abs(y(link.row) + (y(link.column) - y(link.row)) * bend - height);
        if (distance < nearest) {
          nearest = distance;
          best = link;
        }
      }
      return best;
    }

    function aboutToken({ side, at }) {
      const lines = [];
      shown.maps.forEach((map) => {
        const [own, other] = side === "row" ? [map.rows, map.columns] : [map.columns, map.rows];
        const verb = side === "row" ? "attends to" : "is attended to by";
        if (!lines.length) lines.push(`${own.labels[at]} (${own.places[at]}) ${verb}`);
        if (shown.maps.length > 1) lines.push(map.name);
        for (const [to, weight] of AttnLens.ranking(map, side, at, shown.maps.length > 1 ? 2 : 4)) {
          lines.push(`${AttnLens.digits(weight, map.unit)}  ${other.labels[to]} (${other.places[to]})`);
        }
      });
      return lines.join("\n");
    }

    function aboutLine(link) {
      const map = shown.maps[link.map];
      const head = shown.maps.length > 1 ? map.name + "\n" : "";
      return (
        `${head}from ${map.rows.labels[link.row]} (${map.rows.places[link.row]})\n` +
        `to ${map.columns.labels[link.column]} (${map.columns.places[link.column]})\n` +
        `weight ${AttnLens.digits(link.weight, map.unit)}`
      );
    }

    canvas.addEventListener("pointermove", (event) => {
      if (!shown || !place) return;
      const here = under(event);
      const token = tokenAt(here);
      const changed = String(token && token.side + token.at) !== String(active && active.side + active.at);
      active = token;
      if (changed) surface.soon();
      const line = token ? null : lineAt(here);
      canvas.style.cursor = token || (line && on.select) ? "pointer" : "default";
      if (token) surface.point(aboutToken(token), here.x, here.y);
      else if (line) surface.point(aboutLine(line), here.x, here.y);
      else surface.unpoint();
    });
    canvas.addEventListener("pointerleave", () => {
      active = null;
      surface.unpoint();
      surface.soon();
    });
    canvas.addEventListener("click", (event) => {
      if (!shown || !place) return;
      const here = under(event);
      const token = tokenAt(here);
      const line = token || !on.select ? null : lineAt(here);
      if (line) {
        const { rows, columns } = shown.maps[line.map];
        on.select(rows.places[line.row], columns.places[line.column]);
      }
      if (!token) return;
      const [map] = shown.maps;
      const at = (token.side === "row" ? map.rows : map.columns).places[token.at];
      on.follow(at === shown.followed ? null : at);
    });
    host.addEventListener("keydown", (event) => {
      if (!shown || !shown.maps.length) return;
      const { places } = shown.maps[0].rows;
      const at = places.indexOf(shown.followed);
      const steps = { ArrowDown: at + 1, ArrowUp: at < 0 ? places.length - 1 : at - 1, Home: 0, End: places.length - 1 };
      if (event.key === "Escape" && shown.followed !== null) on.follow(null);
      else if (event.key in steps) {
        const next = Math.max(0, Math.min(places.length - 1, steps[event.key]));
        on.follow(places[next]);
      } else return;
      event.preventDefault();
    });

    return {
      show(given) {
        shown = given;
        links = [];
        active = null;
        shown.maps.forEach((map, index) => {
          const found = AttnLens.linksOf(map, shown.threshold, shown.top);
          const drawn = new Set(found.rows.map((row, i) => row * map.columns.labels.length + found.columns[i]));
          const all = AttnLens.linksOf(map, Math.min(shown.threshold, 0.01), 0);
          all.rows.forEach((row, i) => {
            const column = all.columns[i];
            const weight = all.weights[i];
            const isDrawn = drawn.has(row * map.columns.labels.length + column);
            links.push({ map: index, row, column, weight, share: weight / map.high, drawn: isDrawn });
          });
        });
        const [map] = shown.maps;
        const row = map ? map.rows.places.indexOf(shown.followed) : -1;
        surface.say(row >= 0 ? aboutToken({ side: "row", at: row }) : "");
        surface.soon();
        return links.filter((link) => link.drawn).length;
      },
    };
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { tokenLinks });
})();
