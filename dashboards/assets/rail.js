/* The rail: which fields a kind of request has, files that are dropped on it, sentences of a file, recent runs. */
(function () {
  "use strict";

  const FIRST = { pair: "First text", target: "What it reads", write: "Text", chat: "The user's turn" };
  const SECOND = { pair: "Second text", target: "What it writes" };
  const OTHER = "(other)"; // the model that the free field names; `dashboards.ids.OTHER`
  const RECENT = "attnlens-recent";
  const BATCH = "attnlens-sentences";
  const MOST_RECENT = 12;
  const MOST_SENTENCES = 500; // in the list at once
  const MOST_TEXT = 2 ** 20; // bytes of a file of sentences
  const PAUSE_MS = 250; // arrow keys walk through sentences; the one where they rest is run

  function setProps(id, props) {
    window.dash_clientside.set_props(id, props);
  }

  function complain(message) {
    setProps("notice", { children: message, hide: false });
  }

  /* Strings from files and storage are shown by textContent only. */
  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  /* Storage may be full, or switched off. */
  function stored(storage, key, plain) {
    try {
      const found = JSON.parse(window[storage].getItem(key));
      return found === null ? plain : found;
    } catch {
      return plain;
    }
  }

  function store(storage, key, value) {
    try {
      window[storage].setItem(key, JSON.stringify(value));
    } catch {
      /* the list is then forgotten with the page */
    }
  }

  function isRequest(value) {
    return value !== null && typeof value === "object" && typeof value.model === "string" && typeof value.text === "string";
  }

  /* Open a run as a link to it would. */
  function openRun(request) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request)) query.append(name, String(value));
    setProps("address", { data: { path: window.location.pathname, search: "?" + query.toString(), at: Date.now() } });
  }

  /* Recent runs */
  function recentRuns() {
    const found = stored("localStorage", RECENT, []);
    return Array.isArray(found) ? found.filter(isRequest).slice(0, MOST_RECENT) : [];
  }

  function showRecent() {
    const list = document.getElementById("recent-list");
    if (!list) return;
    const runs = recentRuns();
    list.replaceChildren(
      ...runs.map((request) => {
        const button = element("button", "example", request.second ? `${request.text} · ${request.second}` : request.text);
        button.type = "button";
        button.append(element("span", "recent-model", (request.run ? "uploaded, " : "") + request.model));
        button.addEventListener("click", () => openRun(request));
        return button;
      }),
    );
    if (runs.length) {
      const clear = element("button", "text-button", "Forget these");
      clear.type = "button";
      clear.addEventListener("click", () => {
        store("localStorage", RECENT, []);
        showRecent();
      });
      list.append(clear);
    }
    document.getElementById("recent").hidden = runs.length === 0;
  }

  /* Sentences of a file */
  function showSentences() {
    const batch = stored("sessionStorage", BATCH, null);
    const part = document.getElementById("batch");
    if (!part) return;
    part.hidden = !batch || !Array.isArray(batch.lines) || batch.lines.length === 0;
    if (part.hidden) return;
    const lines = batch.lines.map(String);
    const shown = lines.slice(0, MOST_SENTENCES);
    const list = element("select", "sentence-list");
    list.size = Math.min(8, Math.max(2, shown.length));
    list.setAttribute("aria-label", `Sentences of ${batch.name}`);
    list.append(...shown.map((line, index) => new Option(line.replace("\t", " · "), String(index))));
    let pause = null;
    const run = () => {
      const [text, second] = lines[Number(list.value)].split("\t");
      window.dash_clientside.attnlensRail.runText(text, second);
    };
    list.addEventListener("change", () => {
      window.clearTimeout(pause);
      pause = window.setTimeout(run, PAUSE_MS);
    });
    const left = lines.length > shown.length ? `, the first ${shown.length} of ${lines.length}` : "";
    const title = element("h2", "rail-title", `Sentences of ${batch.name}${left}`);
    const close = element("button", "text-button", "Put away");
    close.type = "button";
    close.addEventListener("click", () => {
      store("sessionStorage", BATCH, null);
      showSentences();
    });
    part.replaceChildren(title, list, close);
  }

  async function takeSentences(file) {
    if (file.size > MOST_TEXT) {
      complain(`${file.name} is larger than 1 MB; a file of sentences has one in each line. Cut it into parts.`);
      return;
    }
    const lines = (await file.text()).split(/\r\n|\n|\r/).map((line) => line.trim()).filter(Boolean);
    if (lines.length === 0) {
      complain(`${file.name} is empty; a file of sentences has one in each line.`);
      return;
    }
    store("sessionStorage", BATCH, { name: file.name, lines });
    showSentences();
  }

  /* Files */
  function shownBytes(n) {
    return n < 2 ** 20 ? `${Math.ceil(n / 2 ** 10)} KB` : `${Math.ceil(n / 2 ** 20)} MB`;
  }

  async function take(file) {
    const place = document.getElementById("upload");
    const limit = Number(place.dataset.limit);
    if (/\.(txt|tsv)$/i.test(file.name)) {
      await takeSentences(file);
      return;
    }
    if (file.size > limit) {
      complain(
        `${file.name} has ${shownBytes(file.size)}, this page takes ${shownBytes(limit)}; ` +
          "save a run with fewer layers or heads, or open it in Python with attnlens.open.",
      );
      return;
    }
    place.classList.add("is-busy");
    try {
      const answer = await fetch(`${place.dataset.prefix}upload?name=${encodeURIComponent(file.name)}`, {
        method: "POST",
        body: file,
        headers: { "Content-Type": "application/octet-stream" },
      });
      const found = await answer.json();
      if (found.error) complain(found.error);
      else if (found.request) openRun(found.request);
      else if (found.corpus) window.dash_clientside.attnlensCorpus.open(found.corpus);
      else setProps("uploaded", { data: found.results });
    } catch {
      complain(`${file.name} did not arrive; see whether the server is still there, then try again.`);
    } finally {
      place.classList.remove("is-busy");
    }
  }

  /* A button needs no file field of the page's framework; ours is made once. */
  function prepareUpload() {
    const place = document.getElementById("upload");
    if (!place || place.querySelector("input")) return;
    const field = element("input");
    field.type = "file";
    field.hidden = true;
    field.accept = ".attn,.json,.txt,.tsv,.conllu,.conllup,.jsonl";
    field.setAttribute("aria-label", "A run, a probe result, sentences or a corpus");
    field.addEventListener("change", async () => {
      const [file] = field.files;
      field.value = "";
      if (file) await take(file);
    });
    place.append(field);
    document.getElementById("upload-button").addEventListener("click", () => field.click());
    showRecent();
    showSentences();
  }

  function railOf(event) {
    const carriesFiles = event.dataTransfer && [...event.dataTransfer.types].includes("Files");
    return carriesFiles && event.target instanceof Element ? event.target.closest(".rail") : null;
  }

  document.addEventListener("dragover", (event) => {
    const rail = railOf(event);
    document.querySelector(".rail")?.classList.toggle("is-target", Boolean(rail));
    if (!rail) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.querySelector(".rail")?.classList.remove("is-target");
  });
  document.addEventListener("drop", async (event) => {
    const rail = railOf(event);
    document.querySelector(".rail")?.classList.remove("is-target");
    if (!rail) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) await take(file);
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    attnlensRail: {
      /* The fields as they stand; the server leaves out what the kind does not use. */
      askRun(clicks, model, other, text, kind, second, newTokens) {
        const name = model === OTHER ? (other || "").trim() : model;
        return clicks ? { model: name, text, kind, second, new_tokens: newTokens } : window.dash_clientside.no_update;
      },

      modelOf(run, known) {
        if (!run) return window.dash_clientside.no_update;
        const found = { model: run.request.model, run: run.request.run || "" };
        return JSON.stringify(found) === JSON.stringify(known) ? window.dash_clientside.no_update : found;
      },

      showFields(kind) {
        return [
          FIRST[kind] || "Text",
          SECOND[kind] || "Second text",
          kind in SECOND ? "block" : "none",
          kind === "write" || kind === "chat" ? "block" : "none",
        ];
      },

      remember(run) {
        prepareUpload();
        if (run && isRequest(run.request)) {
          const own = JSON.stringify(run.request);
          const others = recentRuns().filter((request) => JSON.stringify(request) !== own);
          store("localStorage", RECENT, [run.request, ...others].slice(0, MOST_RECENT));
          showRecent();
        }
        return window.dash_clientside.no_update;
      },

      complain,

      /* Fill in a text, or two, and run it. */
      runText(text, second) {
        setProps("text", { value: text });
        if (second !== undefined) setProps("second", { value: second });
        window.setTimeout(() => document.getElementById("run-button").click(), 0);
      },
    },
  });
})();
