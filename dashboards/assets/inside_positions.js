/* /inside/positions: the pairs of a query and a key, turned by their positions; the score is added up here. */
(function () {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const MOST = 16; // dials, the pairs that count most
  const RADIUS = 38;

  function made(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function length([x, y]) {
    return Math.hypot(x, y);
  }

  function turned([x, y], angle) {
    const cosine = Math.cos(angle);
    const sine = Math.sin(angle);
    return [x * cosine - y * sine, y * cosine + x * sine];
  }

  /* What one pair adds to the score, and where its two hands stand. */
  function handsOf(pair, query, key, scaling) {
    const q = turned(pair.q, query * pair.turn);
    const k = turned(pair.k, key * pair.turn);
    return { q, k, part: scaling * (q[0] * k[0] + q[1] * k[1]) };
  }

  function shown(value, digits) {
    return value.toFixed(digits).replace("-", "−");
  }

  function hand(name, vector, longest) {
    const size = length(vector) || 1;
    const reach = RADIUS * (0.3 + 0.7 * (longest ? size / longest : 0));
    return made("line", { x1: 0, y1: 0, x2: (vector[0] / size) * reach, y2: (-vector[1] / size) * reach, class: `hand ${name}` });
  }

  function dial(number, pair, hands, longest) {
    const figure = document.createElement("figure");
    figure.className = "dial";
    const picture = made("svg", { viewBox: "-44 -44 88 88", "aria-hidden": "true" });
    picture.append(made("circle", { r: RADIUS + 3, class: "rim" }), hand("key", hands.k, longest.k), hand("query", hands.q, longest.q));
    const caption = document.createElement("figcaption");
    const sum = document.createElement("strong");
    sum.textContent = (hands.part < 0 ? "" : "+") + shown(hands.part, 3);
    const what = document.createElement("span");
    const wave = (2 * Math.PI) / pair.turn;
    what.textContent = `pair ${number}, a turn in ${wave < 100 ? wave.toFixed(1) : Math.round(wave).toLocaleString("en")}`;
    caption.append(sum, what);
    figure.append(picture, caption);
    return figure;
  }

  /* The numbers of the pairs that count most in the text, in their own order. */
  function chosen(data) {
    const [query, key] = data.positions;
    const weights = data.pairs.map((pair, number) => [Math.abs(handsOf(pair, query, key, data.scaling).part), number]);
    return weights.sort((one, other) => other[0] - one[0]).slice(0, MOST).map(([, number]) => number).sort((one, other) => one - other);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    inside_positions: {
      turn(data, along, apart) {
        const room = document.getElementById("places-dials");
        if (!room) return "";
        if (!data) {
          room.replaceChildren();
          return "";
        }
        const later = data.positions[0] >= data.positions[1] ? 0 : 1; // the one that is pulled away
        const at = data.positions.map((place, side) => place + (along || 0) + (side === later ? apart || 0 : 0));
        const hands = data.pairs.map((pair) => handsOf(pair, at[0], at[1], data.scaling));
        const longest = { q: Math.max(...data.pairs.map((pair) => length(pair.q))), k: Math.max(...data.pairs.map((pair) => length(pair.k))) };
        room.replaceChildren(...chosen(data).map((number) => dial(number, data.pairs[number], hands[number], longest)));
        const score = hands.reduce((sum, { part }) => sum + part, data.scaling * data.rest);
        const moved = along || apart ? `; in the text it is ${shown(data.recorded, 4)}` : ", as the model has it";
        return `“${data.labels[0]}” at ${at[0]} asks “${data.labels[1]}” at ${at[1]}, ${Math.abs(at[0] - at[1])} apart: score ${shown(score, 4)} logits${moved}.`;
      },
    },
  });
})();
