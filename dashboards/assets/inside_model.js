/* The page of the model: a click on a token marks the tokens that it can see. */
(function () {
  "use strict";

  let chosenSource = null; // the encoder's token; the address keeps the other stack's

  function rangesOf(sight) {
    return (sight.dataset.seen || "").split(";").map((row) => row.split(",").filter(Boolean).map((part) => part.split("-").map(Number)));
  }

  function mark(sight, at) {
    const rows = rangesOf(sight);
    const place = at === null || at === undefined || at >= rows.length ? rows.length >> 1 : at;
    const seen = (column) => rows[place].some(([start, stop]) => column >= start && column < stop);
    const looking = [...sight.querySelectorAll(".looks")];
    const source = [...sight.querySelectorAll(".seen-only")];
    looking.forEach((chip, index) => {
      chip.classList.toggle("is-chosen", index === place);
      chip.setAttribute("aria-pressed", String(index === place));
    });
    const columns = source.length ? source : looking;
    columns.forEach((chip, index) => {
      chip.classList.toggle("is-seen", seen(index));
      chip.classList.toggle("is-hidden-from", !seen(index));
    });
    const count = columns.filter((_, index) => seen(index)).length;
    sight.querySelector(".sight-words").textContent = `${looking[place].textContent} (position ${place}) can see ${count} of ${columns.length} tokens.`;
  }

  document.addEventListener("click", (event) => {
    const chip = event.target.closest && event.target.closest(".sight .looks");
    if (!chip) return;
    const sight = chip.closest(".sight");
    const at = Number(chip.dataset.at);
    if (sight.dataset.stack === "E") {
      chosenSource = at;
      mark(sight, at);
    } else window.dash_clientside.set_props("sight-at", { data: at });
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    inside_model: {
      markSight(at) {
        for (const sight of document.querySelectorAll(".sight")) mark(sight, sight.dataset.stack === "E" ? chosenSource : at);
        return window.dash_clientside.no_update;
      },
    },
  });
})();
