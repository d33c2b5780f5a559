/* Puts the pictures into the frame of a notebook: every head in small (where there are several), one in full. */
(function () {
  "use strict";

  const { AttnLens } = window;
  const data = JSON.parse(document.getElementById("al-data").textContent);
  const view = document.getElementById("al-view");

  function bytes(text) {
    const raw = atob(text);
    const found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) found[i] = raw.charCodeAt(i);
    return found.buffer;
  }

  function add(tag, host, text) {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    host.append(element);
    return element;
  }

  const maps = AttnLens.unpackMaps(bytes(data.maps));
  const small = data.thumbnails ? AttnLens.unpackThumbnails(bytes(data.thumbnails)).pictures : null;
  let selected = data.selected;
  let followed = null;

  add("h1", view, data.title);
  add("p", view, data.about);
  const choice = add("label", view, "Head");
  const names = add("select", choice);
  for (const name of data.heads) add("option", names, name).value = name;
  choice.hidden = data.heads.length < 2;
  const caption = add("p", view);
  const parts = add("div", view);
  parts.className = "parts";

  function part() {
    const host = add("div", parts);
    host.className = "part";
    return host;
  }

  const grid = small ? AttnLens.headGrid(part(), { choose, overlay: choose }) : null;
  const links = AttnLens.tokenLinks(part(), { follow });
  const matrix = AttnLens.matrix(part());

  function choose(name) {
    if (!data.heads.includes(name)) {
      caption.textContent = `${name} is not inside this output, to keep it small; pattern_view(run, "${name}") shows it.`;
      return;
    }
    selected = name;
    followed = null;
    show();
  }

  function follow(place) {
    followed = place;
    show();
  }

  function show() {
    const map = maps.find(selected);
    names.value = selected;
    caption.textContent = map.caption;
    const top = Math.max(map.rows.labels.length, map.columns.labels.length) > data.many ? data.few : 0;
    links.show({ maps: [map], threshold: data.threshold, top, followed });
    matrix.show({ map, followed });
    if (grid) grid.show({ cells: data.cells, pictures: small, letter: data.letter, selected, others: [], theme: "", version: 0 });
    document.body.dataset.shown = selected;
  }

  names.addEventListener("change", () => choose(names.value));
  show();
})();
