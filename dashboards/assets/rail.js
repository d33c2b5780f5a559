/* The rail: which fields a kind of request has. */
(function () {
  "use strict";

  const FIRST = { pair: "First text", target: "What it reads", write: "Text", chat: "The user's turn" };
  const SECOND = { pair: "Second text", target: "What it writes" };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    attnlensRail: {
      showFields(kind) {
        return [
          FIRST[kind] || "Text",
          SECOND[kind] || "Second text",
          kind in SECOND ? "block" : "none",
          kind === "write" || kind === "chat" ? "block" : "none",
        ];
      },
    },
  });
})();
