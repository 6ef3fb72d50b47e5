// One picture on the board as a list item: its tile, with thumbnail, name, class and reason, and the button of the large view.
const boardTile = (() => {
  function add(parent, kind, name, text) {
    const made = parent.appendChild(document.createElement(kind));
    if (name) made.className = name;
    if (text) made.textContent = text;
    return made;
  }

  function make(one) {
    const item = document.createElement('li');
    const tile = add(item, 'button', 'fs-tile');
    tile.type = 'button';
    tile.dataset.id = one.id;
    const image = add(tile, 'img');
    Object.assign(image, { alt: '', decoding: 'async', width: 112, height: 112, draggable: false });
    add(add(tile, 'span', 'fs-name'), 'bdi', '', one.name);
    add(tile, 'span', 'fs-label');
    const open = add(item, 'button', 'fs-open', '\u2922');
    Object.assign(open, { type: 'button', tabIndex: -1, title: farshotText('large_view') });
    open.setAttribute('aria-label', farshotText('large_view_of', { name: one.name }));
    return item;
  }

  // asks for its thumbnail
  function load(item) {
    const image = item.querySelector('img');
    if (!image.hasAttribute('src')) image.src = `farshot/thumbnail/${item.firstElementChild.dataset.id}`;
  }

  // its class, as everywhere on the page; known: {name, letter, edge}, or null without one
  function label(place, known) {
    place.replaceChildren();
    place.classList.toggle('fs-none', known === null);
    if (known === null) { place.textContent = farshotText('no_class'); return; }
    add(place, 'span', 'key', known.letter).style.cssText = known.edge;
    place.append(' ');
    add(place, 'bdi', '', known.name);
  }

  function update(item, one, known) {
    const now = JSON.stringify([known, one.reason]);
    if (item.shows === now) return;
    item.shows = now;
    const tile = item.firstElementChild;
    const values = { name: one.name, label: known?.name ?? farshotText('no_class'), reason: one.reason };
    tile.setAttribute('aria-label', farshotText(one.reason ? 'tile_next' : 'tile', values));
    tile.classList.toggle('fs-suggested', one.reason !== '');
    label(tile.querySelector('.fs-label'), known);
    tile.querySelector('.fs-reason')?.remove();
    if (one.reason) add(add(tile, 'span', 'fs-reason'), 'bdi', '', one.reason);
  }

  return { make, load, label, update };
})();
