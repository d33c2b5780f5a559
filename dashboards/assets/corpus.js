/* The rail's list of a corpus' sentences: a page of them at a time, searched by the server; picking one runs it. */
(function () {
  "use strict";

  const KEPT = "attnlens-corpus";
  const PAUSE_MS = 250; // keys that are typed, and arrow keys that walk; where they rest is what is asked for
  const OTHER = "(file)";
  let state = { corpus: "", find: "", from: 0, titles: {} };
  let ticket = 0; // of the latest question; an answer to an earlier one is not shown
  let pause = null;

  function host() {
    return document.getElementById("corpus");
  }

  function element(name, className, attributes) {
    const made = document.createElement(name);
    if (className) made.className = className;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  }

  function remember() {
    try {
      window.sessionStorage.setItem(KEPT, JSON.stringify(state));
    } catch {
      /* storage is full or off: the list is forgotten with the page */
    }
  }

  function recall() {
    try {
      const kept = JSON.parse(window.sessionStorage.getItem(KEPT));
      if (kept && typeof kept.corpus === "string" && typeof kept.titles === "object") state = { ...state, ...kept };
    } catch {
      /* nothing was kept */
    }
    return state.corpus !== "";
  }

  function soon(act) {
    window.clearTimeout(pause);
    pause = window.setTimeout(act, PAUSE_MS);
  }

  function part(name) {
    return host().querySelector(`[data-part="${name}"]`);
  }

  /* Made when the list is opened for the first time. */
  function prepare() {
    const place = host();
    if (!place || place.childElementCount) return;
    const which = element("select", "corpus-field", { "data-part": "which", "aria-label": "Corpus" });
    const path = element("input", "corpus-field", {
      "data-part": "path", "aria-label": "Path of a corpus", placeholder: "corpora/dev.conllu, then Enter", spellcheck: "false",
    });
    path.hidden = true;
    const find = element("input", "corpus-field", { "data-part": "find", type: "search", "aria-label": "Find in the sentences", placeholder: "Find words …" });
    const list = element("select", "sentence-list", { "data-part": "list", size: "8", "aria-label": "Sentences of the corpus" });
    const pager = element("div", "corpus-pager", { "data-part": "pager" });
    const earlier = element("button", "step", { type: "button", "aria-label": "Earlier sentences" });
    earlier.textContent = "‹";
    const later = element("button", "step", { type: "button", "aria-label": "Later sentences" });
    later.textContent = "›";
    const told = element("span", "note", { "data-part": "told", role: "status" });
    pager.append(earlier, told, later);
    place.append(which, path, find, list, pager);
    which.addEventListener("change", () => {
      path.hidden = which.value !== OTHER;
      if (which.value === OTHER) path.focus();
      else open(which.value);
    });
    path.addEventListener("keydown", (event) => event.key === "Enter" && path.value.trim() && open(path.value.trim()));
    find.addEventListener("input", () => soon(() => ask({ find: find.value, from: 0 })));
    list.addEventListener("change", () => soon(pick));
    earlier.addEventListener("click", () => ask({ from: Math.max(0, state.from - state.onPage) }));
    later.addEventListener("click", () => ask({ from: state.from + state.onPage }));
    find.value = state.find;
    ask({});
  }

  function fillWhich() {
    const { embedded, local } = host().dataset;
    const names = { [embedded]: "the embedded grammar", ...state.titles };
    const options = Object.entries(names).map(([name, title]) => new Option(title, name));
    if (local === "true") options.push(new Option("a file on this machine …", OTHER));
    part("which").replaceChildren(...options);
    part("which").value = state.corpus;
    part("path").hidden = true;
  }

  /* Ask for a page; what cannot be read leaves the list as it was. */
  async function ask(change) {
    const asked = { ...state, ...change };
    if (!asked.corpus) asked.corpus = host().dataset.embedded;
    ticket += 1;
    const own = ticket;
    const query = new URLSearchParams({ corpus: asked.corpus, find: asked.find, from: String(asked.from) });
    part("told").textContent = "Reading …";
    try {
      const answer = await fetch(`${document.getElementById("upload").dataset.prefix}sentences?${query}`);
      const found = await answer.json();
      if (own !== ticket) return;
      if (found.error) throw new Error(found.error);
      state = { ...asked, from: found.first, onPage: found.on_page, titles: { ...asked.titles, [found.corpus]: found.title } };
      remember();
      show(found);
    } catch (error) {
      if (own !== ticket) return;
      part("told").textContent = "";
      window.dash_clientside.attnlensRail.complain(`The sentences cannot be listed: ${error.message}`);
    }
  }

  function show(found) {
    fillWhich();
    part("list").replaceChildren(...found.rows.map(([number, text]) => {
      const option = new Option(text, text);
      option.title = `${number} ${text}`;
      option.dir = "auto";
      return option;
    }));
    const last = found.first + found.rows.length;
    const [total, matching, from] = [found.total, found.found, found.first + 1].map((n) => n.toLocaleString("en-US"));
    const of = found.found === found.total ? total : `${matching} that match, of ${total}`;
    part("told").textContent = found.rows.length ? `${from} to ${last.toLocaleString("en-US")} of ${of}` : `none of ${total} matches`;
    const [earlier, later] = part("pager").querySelectorAll("button");
    earlier.disabled = found.first === 0;
    later.disabled = last >= found.found;
  }

  function pick() {
    const text = part("list").value;
    if (text) window.dash_clientside.attnlensRail.runText(text);
  }

  /* Show the list of this corpus; one that cannot be read is said in the page. */
  function open(corpus) {
    const change = { corpus, find: "", from: 0 };
    const details = host().closest("details");
    if (!host().childElementCount) state = { ...state, ...change };
    details.open = true;
    prepare();
    part("find").value = "";
    ask(change);
  }

  document.addEventListener("toggle", (event) => event.target.contains(host()) && event.target.open && prepare(), true);

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    attnlensCorpus: {
      open,

      /* A list that was open in this tab is open after a reload. */
      reopen() {
        const place = host();
        if (place && !place.childElementCount && recall()) place.closest("details").open = true;
        return window.dash_clientside.no_update;
      },
    },
  });
})();
