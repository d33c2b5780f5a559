/* Starts a report: the parts that its data name. */
(function () {
  "use strict";

  const { AttnLens } = window;
  const { page, runs, kind } = AttnLens.data;
  if (kind === "comparison" && page.pair) AttnLens.startPair({ runs, view: page.pair });
  else if (page.view) AttnLens.startRun({ run: runs[0], view: page.view });
  AttnLens.ready();
})();
