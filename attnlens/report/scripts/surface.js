/* What all pictures share: a sharp canvas that follows its place, colours of the page, a tooltip, spoken words. */
(function () {
  "use strict";

  const N_SHADES = 256;
  const SPOKEN = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap";
  const TIP =
    "position:absolute;z-index:5;display:none;max-width:min(300px,92%);padding:.45rem .65rem;border-radius:8px;" +
    "background:var(--al-ink);color:var(--al-paper);font-size:.8125rem;line-height:1.4;pointer-events:none;" +
    "white-space:pre-line;overflow-wrap:anywhere;font-variant-numeric:tabular-nums;box-shadow:0 4px 16px #0003";

  function styled(tag, style, host) {
    const element = document.createElement(tag);
    element.style.cssText = style;
    host.append(element);
    return element;
  }

  function channels(colour) {
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  }

  /* The page's colours at this moment; `shades` runs from weight 0 to 1. */
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const named = (name) => style.getPropertyValue("--al-" + name).trim() || "#808080";
    const steps = Array.from({ length: 11 }, (_, step) => channels(named("seq-" + step)));
    const shades = Array.from({ length: N_SHADES }, (_, i) => {
      const place = (i / (N_SHADES - 1)) * 10;
      const below = Math.min(9, Math.floor(place));
      return steps[below].map((from, c) => Math.round(from + (place - below) * (steps[below + 1][c] - from)));
    });
    const [surfaceColour, less, more] = ["surface", "seq-6", "accent"].map((name) => channels(named(name)));
    const mixed = (end, share) => surfaceColour.map((from, c) => Math.round(from + Math.min(1, share) * (end[c] - from)));
    const signed = (share) => `rgb(${share < 0 ? mixed(less, -share) : mixed(more, share)})`; // from -1 to 1
    return { named, shades, channels, font: named("font"), shade: (share) => `rgb(${shades[shadeAt(share)]})`, signed };
  }

  function shadeAt(share) {
    return Math.max(0, Math.min(N_SHADES - 1, Math.round(share * (N_SHADES - 1))));
  }

  const drawn = new Map(); // canvas -> how its picture is drawn

  /* Draws every picture of the page at once, as before printing or when the colours have changed. */
  function redraw() {
    for (const [canvas, draw] of drawn) {
      if (!canvas.isConnected) drawn.delete(canvas);
      else if (canvas.parentElement.clientWidth) draw();
    }
  }

  /* A canvas inside `host`, named for screen readers; `draw` runs again whenever the place changes its width. */
  function surface(host, label, draw) {
    host.style.position = "relative";
    const canvas = styled("canvas", "display:block;max-width:100%;touch-action:pan-y", host);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const tip = styled("div", TIP, host);
    tip.className = "al-tip";
    tip.setAttribute("aria-hidden", "true");
    const spoken = styled("div", SPOKEN, host);
    spoken.setAttribute("role", "status");
    let shownWidth = 0;
    let frame = 0;

    function soon() {
      if (frame) return;
      frame = requestAnimationFrame(() => {
        frame = 0;
        shownWidth = host.clientWidth;
        if (shownWidth) draw();
      });
    }
    for (const known of drawn.keys()) if (!known.isConnected) drawn.delete(known);
    drawn.set(canvas, draw);
    new ResizeObserver(() => host.clientWidth !== shownWidth && soon()).observe(host);

    return {
      canvas,
      soon,
      width: () => host.clientWidth,
      /* Room for a picture of this size in CSS pixels; returns a clean context in these. */
      fit(width, height) {
        const ratio = window.devicePixelRatio || 1;
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
        canvas.style.width = width + "px";
        canvas.style.height = height + "px";
        const context = canvas.getContext("2d");
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        return context;
      },
      /* Plain text beside a point of the canvas; nothing hides it. */
      point(text, x, y) {
        tip.textContent = text;
        tip.style.display = "block";
        const room = host.clientWidth - tip.offsetWidth - 2;
        tip.style.left = Math.max(2, Math.min(room, x + 14)) + "px";
        const above = y - tip.offsetHeight - 12;
        tip.style.top = (above > 0 ? above : y + 18) + "px";
      },
      unpoint() {
        tip.style.display = "none";
      },
      say(text) {
        if (spoken.textContent !== text) spoken.textContent = text;
      },
    };
  }

  /* `label` cut in the middle until it fits. */
  function fitted(context, label, room) {
    const whole = label || "∅";
    if (context.measureText(whole).width <= room) return whole;
    const letters = Array.from(whole);
    for (let kept = letters.length - 1; kept > 1; kept -= 1) {
      const tail = Math.floor(kept * 0.4);
      const cut = letters.slice(0, kept - tail).join("") + "…" + (tail ? letters.slice(-tail).join("") : "");
      if (context.measureText(cut).width <= room) return cut;
    }
    return "…";
  }

  function digits(weight, unit) {
    if (Number.isNaN(weight)) return "not visible (masked)";
    return weight.toFixed(4) + (unit ? " " + unit : "");
  }

  window.AttnLens = Object.assign(window.AttnLens || {}, { surface, redraw, colours, shadeAt, fitted, digits, styled });
})();
