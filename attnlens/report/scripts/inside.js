/* Reads what attnlens.report.file.weights packs into a report: a run's maps, decoded when they are asked for. */
(function () {
  "use strict";

  const SHORT = 128; // tokens up to which a picture has every cell
  const POOLED = 64; // cells along a side of the picture of a longer text
  const HIDDEN = 65535;

  function bytesOf(base64) {
    const text = atob(base64);
    const found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) found[i] = text.charCodeAt(i);
    return found;
  }

  function maskOf(text, columns) {
    if (text === "all") return () => true;
    if (text === "causal") return (row, column) => column <= row;
    const bits = bytesOf(text);
    return (row, column) => {
      const at = row * columns + column;
      return ((bits[at >> 3] >> (7 - (at & 7))) & 1) === 1;
    };
  }

  function readerOf(stack, text) {
    const bytes = bytesOf(text);
    if (stack.bits === 8) return (at) => bytes[at] / 255;
    const codes = new Uint16Array(bytes.buffer);
    return (at) => (codes[at] === 0 ? 0 : (codes[at] + 0.5) / 60000);
  }

  function mapOf(fields, rows, columns, weights) {
    const n = columns.labels.length;
    return {
      rows, columns, weights, level: "tokens", size: [rows.labels.length, n], window: null, unit: "", high: 1,
      weight: (row, column) => weights[row * n + column], ...fields,
    };
  }

  /* The part of a map that a window [first, stop, left, right] shows. */
  function windowOf(map, window) {
    const [first, stop, left, right] = window;
    const cut = ({ labels, places }, from, to) => ({ labels: labels.slice(from, to), places: places.slice(from, to) });
    const weights = new Float32Array((stop - first) * (right - left));
    let at = 0;
    for (let row = first; row < stop; row += 1) {
      for (let column = left; column < right; column += 1) weights[at++] = map.weight(row, column);
    }
    const part = { name: map.name, caption: map.caption, unit: map.unit, high: map.high, size: map.size, window };
    return mapOf(part, cut(map.rows, first, stop), cut(map.columns, left, right), weights);
  }

  function sideOf(tokens) {
    return { labels: tokens.map((token) => token.label), places: tokens.map((_, at) => at) };
  }

  /* The heads of one stack of a run: `map(name)`, `picture(name)`, and the numbers between its tokens. */
  function stackInside(run, letter) {
    const stack = run.stacks[letter];
    const source = run.source ? sideOf(run.source.tokens) : null;
    const own = sideOf(run.tokens);
    const rows = letter === "E" && source ? source : own;
    const columns = (letter === "E" || letter === "X") && source ? source : own;
    const [height, width] = [rows.labels.length, columns.labels.length];
    const masks = stack.masks.map((text) => maskOf(text, width));
    const pictures = new Map();
    let latest = null; // the map that was asked for last

    function each(name, use) {
      const layer = Number(/L(\d+)H/.exec(name)[1]);
      const sees = masks[stack.mask_of[layer]];
      const weight = readerOf(stack, stack.heads[name]);
      let at = 0;
      for (let row = 0; row < height; row += 1) {
        for (let column = 0; column < width; column += 1) if (sees(row, column)) use(row, column, weight(at++));
      }
    }

    function map(name) {
      if (!(name in stack.heads)) return null;
      if (latest && latest.name === name) return latest;
      const weights = new Float32Array(height * width).fill(NaN);
      each(name, (row, column, weight) => (weights[row * width + column] = weight));
      const said = stack.captions[stack.caption_of[name]];
      const spoken = `${{ E: "Encoder layer", X: "Cross-attention layer" }[letter] || "Layer"} ${name.replace(/^[EDX]?L(\d+)H/, "$1, head ")}`;
      latest = mapOf({ name, caption: `${spoken}: ${said}` }, rows, columns, weights);
      return latest;
    }

    /* A small picture: each cell the largest weight of its part, in steps of 1/254, 255 where all of it is hidden. */
    function picture(name) {
      if (pictures.has(name)) return pictures.get(name);
      let made = null;
      if (name in stack.heads) {
        const [down, across] = [height, width].map((n) => (n <= SHORT ? n : POOLED));
        const steps = new Uint8Array(down * across).fill(255);
        each(name, (row, column, weight) => {
          const at = Math.floor((row * down) / height) * across + Math.floor((column * across) / width);
          const step = Math.round(weight * 254);
          if (steps[at] === 255 || step > steps[at]) steps[at] = step;
        });
        made = { rows: down, columns: across, steps };
      } else if (name in stack.pictures) {
        const [down, across, text] = stack.pictures[name];
        made = { rows: down, columns: across, steps: bytesOf(text) };
      }
      if (made) pictures.set(name, made);
      return made;
    }

    /* Any numbers between these tokens, such as a measure of mixing, as a map. */
    function between({ title, caption, unit, high, kind, wide }) {
      const bytes = bytesOf(wide);
      const numbers = kind === "f4"
        ? new Float32Array(bytes.buffer)
        : Float32Array.from(new Uint16Array(bytes.buffer), (code) => (code === HIDDEN ? NaN : code === 0 ? 0 : (code + 0.5) / 60000));
      return mapOf({ name: title, caption, unit, high: unit ? high : 1 }, rows, columns, numbers);
    }

    return { stack, letter, rows, columns, names: Object.keys(stack.heads), map, picture, between };
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { stackInside, windowOf });
})();
