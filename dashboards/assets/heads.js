/* The grid of heads: opening a head's page by click, Enter or link, searching, saving. */
(function () {
  "use strict";

  const PATH = "/head/{head}";
  const OF_THE_LIST = ["find", "show", "head"];

  function none() {
    return window.dash_clientside.no_update;
  }

  /* Go to the page of a head without loading everything anew; the frame writes the address. */
  function openHead(head, href) {
    const query = new URLSearchParams(window.location.search);
    OF_THE_LIST.forEach((name) => query.delete(name));
    const search = query.toString();
    const base = new URL(href || "head/" + encodeURIComponent(head), window.location.href);
    window.dash_clientside.set_props("page-view", { data: { path: PATH, given: {} } });
    window.dash_clientside.set_props("head", { value: head });
    window.history.pushState(null, "", base.pathname + (search ? "?" + search : ""));
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    window.scrollTo(0, 0);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    heads: {
      linkHead(head, page, site) {
        const shown = head && page && page.path !== PATH;
        const href = site.prefix + "head/" + encodeURIComponent(head || "");
        return [href, head || "", shown ? "head-link" : "is-hidden"];
      },

      find(text) {
        return { quickFilterText: text || "" };
      },

      exportGrid(clicks) {
        return clicks ? true : none();
      },

      openFromMap(click) {
        const data = click && click.points && click.points[0] && click.points[0].customdata;
        const head = Array.isArray(data) ? data[0] : data;
        if (typeof head === "string") openHead(head);
        return none();
      },
    },
  });

  function headOf(event) {
    const row = event.target.closest("#heads-grid .ag-row");
    return row ? row.getAttribute("row-id") : null;
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.head-link[data-head]");
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      openHead(link.dataset.head, link.href);
      return;
    }
    const head = headOf(event);
    if (head) openHead(head);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    const head = headOf(event);
    if (head) openHead(head);
  });
})();
