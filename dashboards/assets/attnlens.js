/* What the page does without asking the server: the address, the keyboard, clicks, light and dark. */
(function () {
  "use strict";

  const HEAD = /^([EDX]?)L(\d+)H(\d+)$/;
  const SMALL_CHANGES = ["threshold", "query", "top", "window", "part", "cell", "key", "details", "along", "apart"]; // these do not get a step of their own in the browser's history
  const grid = { layers: 0, heads: 0, head: "" };
  let known = null; // the query part of the address that the page shows
  let knownPath = null;
  let shownPath = null; // the page whose address was written last
  let restoring = true; // the next address is the normal form of the one that was opened

  function none() {
    return window.dash_clientside.no_update;
  }

  function differences(first, second) {
    const one = new URLSearchParams(first);
    const other = new URLSearchParams(second);
    const names = new Set([...one.keys(), ...other.keys()]);
    return [...names].filter((name) => one.get(name) !== other.get(name));
  }

  /* How the address spells the value of a control. */
  function spelled(value, names) {
    if (typeof value === "string" && value in names) return names[value];
    if (value === null || value === undefined || value === false) return "";
    if (Array.isArray(value)) return value.join(",");
    if (typeof value === "object") return String(value.position);
    return value === true ? "1" : String(value);
  }

  /* `?model=...`: every field that differs from a plain view, in a fixed order. */
  function queryOf(given, defaults) {
    const query = new URLSearchParams();
    for (const [name, plain] of Object.entries(defaults)) {
      if (name in given && given[name] !== plain) query.append(name, given[name]);
    }
    const text = query.toString();
    return text ? "?" + text : "";
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    attnlens: {
      readAddress() {
        known = window.location.search;
        knownPath = window.location.pathname;
        return { path: window.location.pathname, search: known };
      },

      keepView(...values) {
        const page = values.pop();
        if (!page) return none();
        const given = {};
        for (const { id, value } of window.dash_clientside.callback_context.inputs_list) {
          const control = page.controls[id];
          if (control) given[control.field] = spelled(value, control.spelled);
        }
        return { path: page.path, given };
      },

      writeAddress(run, head, results, page, site) {
        if (!run || !page || !page.path) return none();
        const shared = { ...run.request, head: head || "", results: results || "" };
        const path = page.path.replace("{head}", encodeURIComponent(shared.head));
        const own = path === page.path ? shared : { ...shared, head: "" };
        const search = queryOf({ ...own, ...page.given }, site.defaults);
        const target = site.prefix + path.slice(1) + search;
        const moved = window.location.pathname !== site.prefix + path.slice(1);
        const changed = differences(window.location.search, search);
        if (moved || changed.length) {
          const small = !moved && changed.every((name) => SMALL_CHANGES.includes(name));
          if (restoring || small || shownPath !== page.path) window.history.replaceState(null, "", target);
          else window.history.pushState(null, "", target);
        }
        restoring = false;
        shownPath = page.path;
        known = window.location.search;
        knownPath = window.location.pathname;
        return queryOf(shared, site.defaults);
      },

      linkPages(search, page, links, site) {
        const open = page ? page.path : null;
        const marked = links.some(({ index }) => index === open) ? open : site.parents[open];
        const shared = new URLSearchParams(search || "");
        const within = links.length && links[0].type === "section"; // pages that keep the token at hand
        if (within && page && page.given.at) shared.set("at", page.given.at);
        const query = shared.toString() ? "?" + shared.toString() : "";
        return [
          links.map(({ index }) => site.prefix + index.slice(1) + query),
          links.map(({ index }) => (index === marked ? "nav-link is-open" : "nav-link")),
        ];
      },

      linkExports(run, head, results, page, links, site) {
        if (!run) return links.map(() => none());
        const given = { ...run.request, head: head || "", results: results || "", ...(page ? page.given : {}) };
        const query = "?" + new URLSearchParams(given).toString();
        return links.map(({ index }) => site.prefix + "export/" + index + query);
      },

      /* Every drawn picture of the open page as a file: plotly writes its own, a canvas only pixels. */
      savePictures(_clicks, head) {
        const triggered = window.dash_clientside.callback_context.triggered_id;
        const format = triggered && triggered.index;
        const stage = document.getElementById("page");
        if (!format || !stage) return none();
        const seen = (part) => part.getClientRects().length > 0;
        const name = (number) => `attnlens-${head || "view"}-${number}`;
        let number = 0;
        for (const plot of [...stage.querySelectorAll(".js-plotly-plot")].filter(seen)) {
          const { width, height } = plot.getBoundingClientRect();
          window.Plotly.downloadImage(plot, { format, width, height, scale: 3, filename: name((number += 1)) });
        }
        for (const canvas of [...stage.querySelectorAll("canvas")].filter((part) => seen(part) && !part.closest(".js-plotly-plot"))) {
          const link = document.createElement("a");
          link.href = canvas.toDataURL("image/png");
          link.download = name((number += 1)) + ".png";
          link.click();
        }
        return number;
      },

      stepHead(_previous, _next, head, options) {
        const triggered = window.dash_clientside.callback_context.triggered_id;
        const names = (options || []).map((option) => option.value);
        const at = names.indexOf(head);
        const step = triggered === "previous-head" ? -1 : 1;
        return names.length ? names[(at + step + names.length) % names.length] : none();
      },

      rememberGrid(run, head, cells) {
        if (run) Object.assign(grid, { layers: run.n_layers, heads: run.n_heads, head: head || "" });
        if (cells) Object.assign(grid, { layers: cells.n_layers, heads: cells.n_heads });
        return "";
      },

      stackOf(head, shown) {
        const match = HEAD.exec(head || "");
        return match && match[1] !== shown ? match[1] : none();
      },

      /* What the server is asked for; nothing while a part is closed, or all would be told the same again. */
      askTable(clicks, run, metric, results, stack) {
        return clicks % 2 && run && typeof stack === "string" ? [run, metric, results || "", stack] : none();
      },

      askClassic(run, head, theme, view, tab) {
        return run && head && theme && tab === "classic" ? [run, head, theme, view] : none();
      },

      askEvidence(run, head, results, theme, asked) {
        if (!run || !head || !theme) return [none(), none()];
        if (results) return [head, { run, head, results, theme }];
        return [head, asked && !asked.results ? none() : { theme }];
      },

      sameHeads(options) {
        return options || [];
      },

      forgetToken(words, query) {
        return query && query.of !== (words === "words") ? null : none();
      },
    },
  });

  window.addEventListener("popstate", () => {
    if (window.location.search === known && window.location.pathname === knownPath) return; // a jump within the page, such as the skip link
    known = window.location.search;
    knownPath = window.location.pathname;
    restoring = true;
    window.dash_clientside.set_props("address", { data: { path: window.location.pathname, search: known, at: Date.now() } });
  });

  /* A menu closes when something in it, or anything else, is clicked, and with Escape. */
  function closeMenus(except) {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
  }

  document.addEventListener("click", (event) => {
    const summary = event.target.closest("details.menu > summary");
    closeMenus(summary && summary.parentElement);
  });

  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  function moved(key) {
    const match = HEAD.exec(grid.head);
    if (!match) return null;
    let layer = Number(match[2]);
    let head = Number(match[3]);
    if (key === "ArrowUp") layer -= 1;
    else if (key === "ArrowDown") layer += 1;
    else if (key === "ArrowLeft") head -= 1;
    else if (key === "ArrowRight") head += 1;
    else if (key === "Home") head = 0;
    else if (key === "End") head = grid.heads - 1;
    else return null;
    const inside = layer >= 0 && layer < grid.layers && head >= 0 && head < grid.heads;
    return inside ? `${match[1]}L${layer}H${head}` : grid.head;
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const button = document.getElementById("run-button");
      if (button && !button.disabled) button.click();
      event.preventDefault();
      return;
    }
    if (event.target.id !== "head-map-frame") return;
    const name = moved(event.key);
    if (name === null) return;
    event.preventDefault(); // no scrolling
    if (name !== grid.head) {
      grid.head = name;
      const { showHead } = window.dash_clientside.attnlens;
      if (showHead) showHead(name);
      window.dash_clientside.set_props("head", { value: name });
    }
  });

  /* Figures are drawn by the server and need to know which theme Mantine has settled on. */
  let theme = null;
  function tellTheme() {
    const scheme = document.documentElement.getAttribute("data-mantine-color-scheme");
    if (!scheme || scheme === theme || !document.getElementById("stage")) return;
    theme = scheme;
    window.dash_clientside.set_props("theme", { data: scheme });
  }

  new MutationObserver(() => {
    tellTheme();
  }).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-mantine-color-scheme"],
    childList: true,
    subtree: true,
  });
})();
