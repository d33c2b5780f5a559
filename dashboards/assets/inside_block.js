/* The page of a block: a click on a token chooses it, a click on a box of the diagram marks its step. */
(function () {
  "use strict";

  let marked = null; // the step that the page has gone to

  document.addEventListener("click", (event) => {
    const chip = event.target.closest && event.target.closest("#block-tokens .token-chip");
    if (chip) window.dash_clientside.set_props("block-at", { data: Number(chip.dataset.at) });
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    inside_block: {
      /* The box and the card of the step in the accent colour; the page goes there when another one is chosen. */
      mark(key) {
        for (const box of document.querySelectorAll("#block-diagram .box")) box.classList.toggle("is-open", Boolean(key) && box.dataset.key === key);
        let card = null;
        for (const step of document.querySelectorAll(".step-card")) {
          step.classList.toggle("is-open", Boolean(key) && step.id === `step-${key}`);
          if (step.classList.contains("is-open")) card = step;
        }
        if (card && marked !== key) {
          const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
          card.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
          card.focus({ preventScroll: true });
        }
        if (card || !key) marked = key;
        return window.dash_clientside.no_update;
      },
    },
  });
})();
