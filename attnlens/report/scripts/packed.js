/* Reads what attnlens.report.packed writes: a header in JSON, then numbers. Knows nothing of pages. */
(function () {
  "use strict";

  const STEPS = 60000; // intervals of a weight from 0 to 1; one is shown by its middle
  const HIDDEN = 65535;

  function opened(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    return { header, start: 4 + length };
  }

  function fromCodes(codes) {
    const weights = new Float32Array(codes.length);
    for (let i = 0; i < codes.length; i += 1) {
      weights[i] = codes[i] === HIDDEN ? NaN : codes[i] === 0 ? 0 : (codes[i] + 0.5) / STEPS;
    }
    return weights;
  }

  /* One map: weights row by row, NaN where the mask hides a cell. */
  function mapOf(header, at, weights) {
    const columns = header.columns.labels.length;
    let high = header.unit ? 0 : 1;
    if (header.unit) for (const weight of weights) if (weight > high) high = weight;
    return {
      name: header.names[at],
      caption: header.captions[at],
      rows: header.rows,
      columns: header.columns,
      level: header.level,
      size: header.size,
      window: header.window,
      unit: header.unit,
      high: high || 1,
      weights,
      weight: (row, column) => weights[row * columns + column],
    };
  }

  /* Maps by name; a map is decoded when it is asked for. */
  function unpackMaps(buffer) {
    const { header, start } = opened(buffer);
    const size = header.rows.labels.length * header.columns.labels.length;
    const wide = header.kind === "f4";
    const decoded = new Map();
    function find(name) {
      const at = header.names.indexOf(name);
      if (at < 0) return null;
      if (!decoded.has(name)) {
        const from = start + at * size * (wide ? 4 : 2);
        const weights = wide ? new Float32Array(buffer, from, size) : fromCodes(new Uint16Array(buffer, from, size));
        decoded.set(name, mapOf(header, at, weights));
      }
      return decoded.get(name);
    }
    return { header, find, bytes: buffer.byteLength };
  }

  /* Small pictures by head: steps of 1/254, 255 where hidden. */
  function unpackThumbnails(buffer) {
    const { header, start } = opened(buffer);
    const pictures = new Map();
    let from = start;
    for (const [name, [rows, columns]] of Object.entries(header.sizes)) {
      pictures.set(name, { rows, columns, steps: new Uint8Array(buffer, from, rows * columns) });
      from += rows * columns;
    }
    return { pictures, next: header.next };
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { unpackMaps, unpackThumbnails });
})();
