// Pictures as tiles: chosen with clicks or keys, labelled with 1 to 9. Gradio draws a board again by changing what
// its elements show, so what is chosen and focused is remembered by picture, never by place.
const AFTER_MOVE = 400; // milliseconds in which a key is meant for a picture that a redraw took from under it
const marked = new Set(); // the chosen pictures
let at = null; // the picture that has, or had, the focus
let order = []; // of the pictures, as drawn
let moved = null; // a picture that went away under the focus, and when

const tiles = () => [...element.querySelectorAll('.fs-tile')];
const idOf = (tile) => tile.dataset.id;
const shows = (tile) => tile.closest('.fs-grid').dataset.mode === 'show';
const within = () => element.contains(document.activeElement);

function mark(tile, on) {
  tile.setAttribute('aria-pressed', String(on));
  if (on) marked.add(idOf(tile)); else marked.delete(idOf(tile));
}

function focus(tile) {
  tiles().forEach((other) => { other.tabIndex = other === tile ? 0 : -1; });
  at = idOf(tile);
  tile.focus();
}

function act(what, value, from) {
  const all = tiles();
  const chosen = all.filter((tile) => marked.has(idOf(tile))).map(idOf);
  const panel = element.querySelector('[data-picture]'); // the picture that the panel explains
  let ids = from && shows(from) ? [] : chosen; // where a click shows a tile, the focus is meant
  let then = null;
  if (ids.length === 0 && from) {
    const gone = moved && performance.now() - moved.time < AFTER_MOVE;
    ids = [gone ? moved.id : idOf(from)];
  }
  if (ids.length > 0 && from) {
    // at once, since whoever labels with the keyboard is faster than the answer
    const last = all.findIndex((tile) => idOf(tile) === ids[ids.length - 1]);
    const after = (last >= 0 && all[last + 1]) || from;
    then = idOf(after);
    focus(after);
  }
  moved = null;
  all.forEach((tile) => { if (!shows(tile)) mark(tile, false); });
  if (ids.length === 0 && panel) ids = [panel.dataset.picture];
  if (what === 'forget') outbox.drained().then(() => trigger('act', { do: what }));
  else outbox.add({ do: what, value: value ?? '', ids, next: then });
}

function choose(tile) {
  focus(tile);
  if (shows(tile)) {
    tiles().forEach((other) => other.setAttribute('aria-pressed', String(other === tile)));
    outbox.add({ do: 'show', value: '', ids: [idOf(tile)], next: null });
  } else {
    mark(tile, !marked.has(idOf(tile)));
  }
}

function neighbour(tile, key) {
  const all = tiles();
  const place = all.indexOf(tile);
  const first = all[0].getBoundingClientRect().top;
  const across = Math.max(1, all.filter((other) => other.getBoundingClientRect().top === first).length);
  const to = { ArrowRight: place + 1, ArrowLeft: place - 1, ArrowDown: place + across, ArrowUp: place - across,
    Home: 0, End: all.length - 1 }[key];
  return to === undefined ? null : all[Math.min(Math.max(to, 0), all.length - 1)];
}

element.addEventListener('click', (event) => {
  const tile = event.target.closest('.fs-tile');
  if (tile) { choose(tile); return; }
  const button = event.target.closest('[data-do]');
  if (!button || button.disabled) return;
  if (!button.dataset.ask || window.confirm(button.dataset.ask)) act(button.dataset.do, button.dataset.value, null);
});

element.addEventListener('focusin', (event) => {
  const tile = event.target.closest('.fs-tile');
  if (tile) at = idOf(tile);
});

element.addEventListener('keydown', (event) => {
  if (event.key.toLowerCase() === 'z' && (event.ctrlKey || event.metaKey) && !event.altKey) {
    outbox.add({ do: event.shiftKey ? 'redo' : 'undo', value: '', ids: [], next: null });
    event.preventDefault();
    return;
  }
  const tile = event.target.closest('.fs-tile');
  if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
  const other = neighbour(tile, event.key);
  if (other) {
    moved = null;
    focus(other);
  } else if (/^[0-9]$/.test(event.key)) {
    const value = window.farshotBoard.classOfKey(event.key);
    if (value !== null) act(shows(tile) ? 'correct' : 'label', value, tile);
  } else if (event.key === 'Delete' && !shows(tile)) {
    act('remove', '', tile);
  } else {
    return;
  }
  event.preventDefault();
});

watch('value', () => {
  const all = tiles();
  const ids = all.map(idOf);
  const elsewhere = document.activeElement && document.activeElement !== document.body && !within();
  [...marked].forEach((id) => { if (!ids.includes(id)) marked.delete(id); });
  all.forEach((tile) => { if (!shows(tile)) tile.setAttribute('aria-pressed', String(marked.has(idOf(tile)))); });
  if (at !== null && all.length > 0) {
    let place = ids.indexOf(at);
    if (place < 0 && order.includes(at)) { // it is shown no more: the next of those that were behind it
      const left = order.slice(order.indexOf(at)).find((id) => ids.includes(id));
      place = left === undefined ? all.length - 1 : ids.indexOf(left);
      moved = { id: at, time: performance.now() };
    }
    if (place >= 0 && !elsewhere) focus(all[place]);
    else if (place >= 0) all.forEach((tile, number) => { tile.tabIndex = number === place ? 0 : -1; });
  }
  order = ids;
  const version = element.querySelector('[data-version]');
  if (version) outbox.drew(Number(version.dataset.version));
});

order = tiles().map(idOf);
