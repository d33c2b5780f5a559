/* A map too large for a screen, pooled to a small picture, and the window of it that is shown exactly. */
(function () {
  "use strict";

  const LARGEST = 256; // pixels along a side
  const SMALLEST = 8; // tokens along a side of a window
  const MOST = 192;

  /* overview(host, {look([first, stop, left, right])}).show({picture, size, window}) in tokens: queries, then keys */
  function overview(host, on) {
    const { AttnLens } = window;
    let shown = null;
    let scale = [1, 1]; // pixels per token: down, across
    let pressed = null; // where a drag began, in tokens, and what it does
    let drawn = null; // the window while it is dragged
    const surface = AttnLens.surface(host, "The whole map in small, with the part that is shown below", draw);
    const { canvas } = surface;
    canvas.style.touchAction = "none";
    canvas.style.cursor = "crosshair";
    host.tabIndex = 0;

    function draw() {
      if (!shown) return;
      const side = Math.min(LARGEST, surface.width());
      const context = surface.fit(side, side);
      scale = [side / shown.size[0], side / shown.size[1]];
      Object.assign(canvas.dataset, { queries: shown.size[0], keys: shown.size[1] });
      const colours = AttnLens.colours();
      const ratio = canvas.width / side;
      context.putImageData(AttnLens.painted(shown.picture, Math.round(side * ratio), colours), 0, 0);
      const [first, stop, left, right] = drawn || shown.window;
      const box = [left * scale[1], first * scale[0], (right - left) * scale[1], (stop - first) * scale[0]];
      context.strokeStyle = colours.named("surface");
      context.lineWidth = 4;
      context.strokeRect(...box);
      context.strokeStyle = colours.named("accent");
      context.lineWidth = 2;
      context.strokeRect(...box);
    }

    function tokenAt(event) {
      const box = canvas.getBoundingClientRect();
      const at = [(event.clientY - box.top) / scale[0], (event.clientX - box.left) / scale[1]];
      return at.map((place, axis) => Math.max(0, Math.min(shown.size[axis] - 1, Math.floor(place))));
    }

    /* `length` tokens from `first` on, moved so that they lie inside. */
    function span(first, length, n) {
      const kept = Math.max(Math.min(SMALLEST, n), Math.min(length, MOST, n));
      const start = Math.max(0, Math.min(n - kept, Math.round(first)));
      return [start, start + kept];
    }

    function windowAt(first, left, down, across) {
      return [...span(first, down, shown.size[0]), ...span(left, across, shown.size[1])];
    }

    function inside([query, key], [first, stop, left, right]) {
      return query >= first && query < stop && key >= left && key < right;
    }

    canvas.addEventListener("pointerdown", (event) => {
      if (!shown) return;
      const at = tokenAt(event);
      pressed = { at, moves: inside(at, shown.window), from: shown.window };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!shown) return;
      const at = tokenAt(event);
      if (pressed) {
        const [first, stop, left, right] = pressed.from;
        const [down, across] = [at[0] - pressed.at[0], at[1] - pressed.at[1]];
        if (pressed.moves) drawn = windowAt(first + down, left + across, stop - first, right - left);
        else if (down || across) {
          const corner = [Math.min(at[0], pressed.at[0]), Math.min(at[1], pressed.at[1])];
          drawn = windowAt(...corner, Math.abs(down) + 1, Math.abs(across) + 1);
        }
        surface.soon();
      }
      const box = canvas.getBoundingClientRect();
      surface.point(`from token ${at[0]}\nto token ${at[1]}`, event.clientX - box.left, event.clientY - box.top);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!pressed) return;
      const at = tokenAt(event);
      const [first, stop, left, right] = pressed.from;
      if (!drawn && !pressed.moves) {
        drawn = windowAt(at[0] - (stop - first) / 2, at[1] - (right - left) / 2, stop - first, right - left);
      }
      pressed = null;
      if (drawn) on.look(drawn);
    });
    canvas.addEventListener("pointerleave", () => surface.unpoint());
    host.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (!shown || !steps[event.key]) return;
      event.preventDefault();
      const [first, stop, left, right] = drawn || shown.window;
      const [down, across] = steps[event.key];
      drawn = windowAt(
        first + (down * (stop - first)) / 2, left + (across * (right - left)) / 2, stop - first, right - left,
      );
      surface.soon();
      on.look(drawn);
    });

    return {
      show(given) {
        shown = given;
        if (!pressed) drawn = null;
        const [first, stop, left, right] = shown.window;
        surface.say(`tokens ${first} to ${stop - 1} attend to tokens ${left} to ${right - 1}`);
        surface.soon();
      },
    };
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { overview });
})();
