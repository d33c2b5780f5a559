/* Which weights of a map are drawn as lines, and which are its strongest. */
(function () {
  "use strict";

  /* Rows, columns and weights of the links: at least `threshold` of the largest possible, at most `top` of a row. */
  function linksOf(map, threshold, top) {
    const n = map.columns.labels.length;
    const found = { rows: [], columns: [], weights: [] };
    const least = Math.max(threshold, 1e-6) * map.high;
    for (let row = 0; row < map.rows.labels.length; row += 1) {
      let kept = [];
      for (let column = 0; column < n; column += 1) {
        if (map.weight(row, column) >= least) kept.push(column);
      }
      if (top && kept.length > top) {
        kept.sort((a, b) => map.weight(row, b) - map.weight(row, a) || a - b);
        kept = kept.slice(0, top);
      }
      for (const column of kept) {
        found.rows.push(row);
        found.columns.push(column);
        found.weights.push(map.weight(row, column));
      }
    }
    return found;
  }

  function visibleCells(map) {
    let count = 0;
    for (const weight of map.weights) if (!Number.isNaN(weight)) count += 1;
    return count;
  }

  /* Columns of a row (or rows of a column) by weight, the largest first. */
  function ranking(map, side, at, limit) {
    const n = side === "row" ? map.columns.labels.length : map.rows.labels.length;
    const weight = (other) => (side === "row" ? map.weight(at, other) : map.weight(other, at));
    const seen = Array.from({ length: n }, (_, other) => other).filter((other) => !Number.isNaN(weight(other)));
    return seen.sort((a, b) => weight(b) - weight(a) || a - b).slice(0, limit).map((other) => [other, weight(other)]);
  }

  /* The largest weights of a map. Rows that see one column only have no choice and are left out. */
  function strongest(map, limit) {
    const n = map.columns.labels.length;
    const found = [];
    for (let row = 0; row < map.rows.labels.length; row += 1) {
      const best = ranking(map, "row", row, limit);
      if (best.length > 1) for (const [column, weight] of best) found.push([row, column, weight]);
    }
    return found.sort((a, b) => b[2] - a[2] || a[0] * n + a[1] - (b[0] * n + b[1])).slice(0, limit);
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { linksOf, visibleCells, ranking, strongest });
})();
