/* The Stream and Intervene pages: a click on a grid of positions chooses the position. */
(function () {
  "use strict";

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    stream: {
      choosePosition(...clicks) {
        const triggered = window.dash_clientside.callback_context.triggered;
        const click = triggered && triggered.length ? triggered[0].value : null;
        const place = click && click.points && click.points[0] && click.points[0].customdata;
        return Number.isInteger(place) ? String(place) : window.dash_clientside.no_update;
      },
    },
  });
})();
