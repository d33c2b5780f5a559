/* Every head at once: a small picture of each pattern, layer by layer, in a frame that shows a number or a label. */
(function () {
  "use strict";

  const LEFT = 30;
  const TOP = 22;
  const HIDDEN = 255;

  /* A picture in device pixels: where cells are smaller than pixels the largest of them counts. */
  function painted(picture, side, colours) {
    const notVisible = colours.channels(colours.named("not-visible"));
    const image = new ImageData(side, side);
    const { rows, columns, steps } = picture;
    for (let y = 0; y < side; y += 1) {
      const firstRow = Math.floor((y * rows) / side);
      const lastRow = Math.max(firstRow + 1, Math.floor(((y + 1) * rows) / side));
      for (let x = 0; x < side; x += 1) {
        const firstColumn = Math.floor((x * columns) / side);
        const lastColumn = Math.max(firstColumn + 1, Math.floor(((x + 1) * columns) / side));
        let best = -1;
        for (let row = firstRow; row < lastRow; row += 1) {
          for (let column = firstColumn; column < lastColumn; column += 1) {
            const step = steps[row * columns + column];
            if (step !== HIDDEN && step > best) best = step;
          }
        }
        const colour = best < 0 ? notVisible : colours.shades[Math.round((best / 254) * 255)];
        image.data.set([colour[0], colour[1], colour[2], 255], 4 * (y * side + x));
      }
    }
    return image;
  }

  /* headGrid(host, {choose(name), overlay(name)}).show({cells, pictures, selected, others}) */
  function headGrid(host, on) {
    let shown = null;
    let cell = 0;
    let hovered = null;
    const base = document.createElement("canvas");
    const surface = window.AttnLens.surface(host, "Every head's attention pattern in small", draw);
    const { canvas } = surface;
    canvas.style.cursor = "pointer";

    function nameAt(event) {
      const box = canvas.getBoundingClientRect();
      const head = Math.floor((event.clientX - box.left - LEFT) / cell);
      const layer = Math.floor((event.clientY - box.top - TOP) / cell);
      if (!shown || head < 0 || layer < 0 || head >= shown.cells.n_heads || layer >= shown.cells.n_layers) return null;
      return `${shown.letter}L${layer}H${head}`;
    }

    function draw() {
      if (!shown) return;
      const { n_layers: layers, n_heads: heads } = shown.cells;
      cell = Math.max(11, Math.min(104, Math.floor((surface.width() - LEFT) / heads)));
      const width = LEFT + cell * heads + 1;
      const height = TOP + cell * layers + 1;
      const context = surface.fit(width, height);
      Object.assign(canvas.dataset, { left: LEFT, top: TOP, cell, heads, layers });
      base.width = canvas.width;
      base.height = canvas.height;
      paintBase(base.getContext("2d"), canvas.width / width);
      stamp(context, width, height);
    }

    function paintBase(context, ratio) {
      const colours = window.AttnLens.colours();
      const frame = cell >= 44 ? 4 : cell >= 24 ? 3 : 2;
      const side = Math.max(1, Math.round((cell - 3 - 2 * frame) * ratio));
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.font = `11px ${colours.font}`;
      context.fillStyle = colours.named("muted");
      numbers(context);
      for (let layer = 0; layer < shown.cells.n_layers; layer += 1) {
        for (let head = 0; head < shown.cells.n_heads; head += 1) {
          const name = `${shown.letter}L${layer}H${head}`;
          const x = LEFT + head * cell;
          const y = TOP + layer * cell;
          context.fillStyle = frameColour(shown.cells.heads[name], colours);
          context.fillRect(x + 1, y + 1, cell - 2, cell - 2);
          const picture = shown.pictures.get(name);
          context.fillStyle = colours.named("surface");
          context.fillRect(x + 1 + frame, y + 1 + frame, cell - 2 - 2 * frame, cell - 2 - 2 * frame);
          if (picture) {
            const corner = [Math.round((x + 1.5 + frame) * ratio), Math.round((y + 1.5 + frame) * ratio)];
            context.putImageData(painted(picture, side, colours), ...corner);
          }
          if (cell >= 44) glyph(context, shown.cells.heads[name], x, y, colours);
        }
      }
    }

    function numbers(context) {
      const { n_layers: layers, n_heads: heads } = shown.cells;
      const step = Math.ceil(18 / cell);
      context.textBaseline = "middle";
      context.textAlign = "center";
      for (let head = 0; head < heads; head += step) context.fillText(head, LEFT + (head + 0.5) * cell, TOP / 2);
      context.textAlign = "right";
      for (let layer = 0; layer < layers; layer += step) context.fillText(layer, LEFT - 8, TOP + (layer + 0.5) * cell);
    }

    function frameColour(info, colours) {
      if (!info) return colours.named("unlabelled");
      if (shown.cells.name) return info.share === null ? colours.named("unlabelled") : colours.shade(info.share);
      return info.category ? colours.named("cat-" + info.category) : colours.named("unlabelled");
    }

    /* The label in short, on a strip of its category's colour. */
    function glyph(context, info, x, y, colours) {
      if (!info || !info.glyph) return;
      context.font = `600 10px ${colours.font}`;
      context.fillStyle = colours.named("cat-" + info.category);
      context.fillRect(x + 1, y + cell - 15, cell - 2, 14);
      context.fillStyle = colours.named("on-cat-" + info.category);
      context.textAlign = "center";
      context.fillText(window.AttnLens.fitted(context, info.glyph, cell - 6), x + cell / 2, y + cell - 7.5);
    }

    /* What changes from head to head, over the pictures. */
    function stamp(context, width, height) {
      context.clearRect(0, 0, width, height);
      context.drawImage(base, 0, 0, width, height);
      const colours = window.AttnLens.colours();
      for (const [name, colour, line] of marks(colours)) {
        const found = /L(\d+)H(\d+)$/.exec(name);
        if (!found) continue;
        context.strokeStyle = colour;
        context.lineWidth = line;
        const inset = line / 2;
        context.strokeRect(
          LEFT + Number(found[2]) * cell + inset, TOP + Number(found[1]) * cell + inset, cell - line, cell - line,
        );
      }
    }

    function marks(colours) {
      const others = shown.others.map((name, i) => [name, colours.named("head-" + (i + 1)), 3]);
      const own = [shown.selected, shown.others.length ? colours.named("head-0") : colours.named("accent"), 3.5];
      return [...(hovered ? [[hovered, colours.named("ink"), 1.5]] : []), ...others, own];
    }

    function restamp() {
      const ratio = window.devicePixelRatio || 1;
      if (shown && base.width) stamp(canvas.getContext("2d"), canvas.width / ratio, canvas.height / ratio);
    }

    canvas.addEventListener("pointermove", (event) => {
      const name = nameAt(event);
      if (name !== hovered) {
        hovered = name;
        restamp();
      }
      if (!name) return surface.unpoint();
      const box = canvas.getBoundingClientRect();
      const info = shown.cells.heads[name];
      surface.point([name, ...(info ? info.lines : [])].join("\n"), event.clientX - box.left, event.clientY - box.top);
    });
    canvas.addEventListener("pointerleave", () => {
      hovered = null;
      surface.unpoint();
      restamp();
    });
    canvas.addEventListener("click", (event) => {
      const name = nameAt(event);
      if (!name) return;
      if (event.shiftKey || event.ctrlKey || event.metaKey) on.overlay(name);
      else on.choose(name);
    });

    return {
      show(given) {
        const same = shown && ["cells", "pictures", "letter", "theme", "version"].every((key) => shown[key] === given[key]);
        shown = given;
        const info = shown.cells.heads[shown.selected];
        surface.say([shown.selected, ...(info ? info.lines : [])].join(", "));
        if (same && base.width) restamp();
        else surface.soon();
      },
    };
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { headGrid, painted });
})();
