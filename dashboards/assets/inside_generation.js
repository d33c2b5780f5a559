/* The Generation page: probabilities of the next token, computed here from its logits, and tokens that are taken. */
(function () {
  "use strict";

  const SHOWN = 12;
  let last = null; // the run whose tokens were taken

  function none() {
    return window.dash_clientside.no_update;
  }

  function nearest(values, wanted) {
    return values.reduce((best, value, place) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? place : best), 0);
  }

  /* As attnlens.steps.sampling does it: temperature, then the top k, then the top p of what is left.
     The tokens that are not listed are one term: cut by a top k, kept whole by a top p that reaches them. */
  function shares(given, temperature, topK, topP) {
    const place = nearest(given.temperatures, temperature);
    const heat = given.temperatures[place];
    const scaled = given.logits.map((logit) => logit / heat);
    const limit = topK > 0 && topK <= scaled.length ? scaled[topK - 1] : -Infinity;
    const withRest = given.n_rest > 0 && !(topK > 0 && topK <= scaled.length);
    const most = Math.max(scaled[0], withRest ? given.rest[place] : -Infinity);
    const weights = scaled.map((value) => (value < limit ? 0 : Math.exp(value - most)));
    let rest = withRest ? Math.exp(given.rest[place] - most) : 0;
    const total = weights.reduce((sum, weight) => sum + weight, rest);
    let before = 0;
    let kept = 0;
    const found = weights.map((weight) => {
      const share = weight / total;
      const stays = topP >= 1 || before < topP ? share : 0;
      before += share;
      kept += stays;
      return stays;
    });
    rest = topP >= 1 || before < topP ? rest / total : 0;
    kept += rest;
    return { heat, listed: found.map((share) => share / kept), rest: rest / kept, reaches: topP < 1 && rest > 0 };
  }

  function percent(share) {
    return share >= 0.0005 ? `${(100 * share).toFixed(1)} %` : share > 0 ? "< 0.1 %" : "0 %";
  }

  function row(label, share, widest, id, writes) {
    const line = document.createElement(id === null || !writes ? "div" : "button");
    line.className = `candidate${id === null ? " candidate-rest" : ""}`;
    const [name, bar, fill, value] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
    name.className = "candidate-name";
    name.textContent = label;
    bar.className = "candidate-bar";
    fill.style.width = `${(100 * share) / widest}%`;
    bar.append(fill);
    value.className = "candidate-share";
    value.textContent = percent(share);
    line.append(name, bar, value);
    if (line.tagName === "BUTTON") {
      line.type = "button";
      line.setAttribute("aria-label", `Take ${label}, ${percent(share)}`);
      line.addEventListener("click", () => take(id));
    }
    return line;
  }

  function take(id) {
    const before = current.took ? `${current.took},` : "";
    window.dash_clientside.set_props("took", { data: `${before}${id}` });
  }

  const current = { given: null, took: "", found: null };

  function options(temperature, topK, topP) {
    return [Number(temperature) || 1, Math.floor(Number(topK) || 0), Number(topP) || 1];
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    generation: {
      shares,

      draw(given, temperature, topK, topP, took) {
        const place = document.getElementById("candidates");
        if (!place) return none();
        Object.assign(current, { given, took: took || "", found: null });
        place.replaceChildren();
        if (!given) return "";
        const found = shares(given, ...options(temperature, topK, topP));
        current.found = found;
        const rows = given.ids.map((id, i) => [given.labels[i], found.listed[i], id]).filter((one) => one[1] > 0);
        const shown = rows.slice(0, SHOWN);
        const others = rows.slice(SHOWN);
        const sum = others.reduce((total, one) => total + one[1], 0) + found.rest;
        const count = others.length + (found.rest > 0 ? given.n_rest : 0);
        const widest = Math.max(shown[0][1], count ? sum : 0);
        shown.forEach((one) => place.append(row(one[0], one[1], widest, one[2], given.writes)));
        if (count) place.append(row(`all ${count.toLocaleString("en")} others`, sum, widest, null, false));
        const cut = given.ids.length + given.n_rest - rows.length - (found.rest > 0 ? given.n_rest : 0);
        const [, k, p] = options(temperature, topK, topP);
        const said = [`Temperature ${found.heat}, ${k ? `top ${k}` : "any k"}, ${p < 1 ? `top p ${p}` : "any p"}.`];
        if (cut) said.push(`${cut.toLocaleString("en")} tokens are cut away; the others are divided by their sum.`);
        if (found.reaches) said.push(`The nucleus reaches beyond the ${given.ids.length.toLocaleString("en")} likeliest; the others are kept whole.`);
        return said.join(" ");
      },

      likeliest(clicks) {
        if (!clicks || !current.given || !current.given.writes) return none();
        take(current.given.ids[0]);
        return none();
      },

      sample(clicks) {
        if (!clicks || !current.found || !current.given.writes) return none();
        let left = Math.random() * (1 - current.found.rest); // among the listed ones
        const found = current.found.listed;
        let place = 0;
        while (place < found.length - 1 && left >= found[place]) left -= found[place++];
        while (place > 0 && !(found[place] > 0)) place -= 1;
        take(current.given.ids[place]);
        return none();
      },

      back(clicks, took) {
        return clicks && took ? took.split(",").slice(0, -1).join(",") : none();
      },

      over(clicks, took) {
        return clicks && took ? "" : none();
      },

      ofRun(run, took) {
        if (!run) return none();
        const other = last !== null && last !== run.request;
        last = run.request;
        return other && took ? "" : none();
      },
    },
  });
})();
