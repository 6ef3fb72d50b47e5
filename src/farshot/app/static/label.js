// The board of all pictures: filtered, sorted and searched here, chosen with mouse or keys, labelled with 1 to 9. The
// tiles are elements of this script (tile.js, window.js) behind those that Gradio draws; the server sends only what they
// show. What is chosen and focused is remembered by picture, never by place or element.
const AFTER_MOVE = 400; // milliseconds in which a key is meant for a picture that a redraw took from under it
const RETRY = 2000;
const root = element.parentElement;
const grid = document.createElement('ul');
const nothing = document.createElement('p');
const marked = new Set(); // the chosen pictures
const listeners = [];
let data = { version: 0, classes: [], tiles: [], suggested: [], model: false };
let byId = new Map();
let order = []; // of the pictures that are shown
let filter = 'all'; // all, none, or the name of a class after a colon
let at = null; // the picture that has, or had, the focus
let reachable = null; // the one that Tab leads to
let anchor = null; // where a range begins
let moved = null; // a picture that went away under the focus, and when

grid.className = 'fs-grid';
grid.dataset.mode = 'label';
grid.setAttribute('role', 'list');
nothing.className = 'fs-empty';
nothing.hidden = true;
element.after(grid, nothing);

const find = (what) => element.querySelector(what);
const idOf = (tile) => tile.dataset.id;
const fold = (text) => text.normalize('NFKC').toLowerCase();
const classOf = (one) => data.classes[one.label] ?? null;
const labelOf = (one) => classOf(one)?.name ?? '';
const collator = new Intl.Collator(window.farshotLanguage, { numeric: true });
const board = tileWindow(grid, {
  make: (id) => boardTile.make(byId.get(id)),
  load: boardTile.load,
  update(item, id) {
    boardTile.update(item, byId.get(id), classOf(byId.get(id)));
    const tile = item.firstElementChild;
    tile.tabIndex = id === reachable ? 0 : -1;
    tile.setAttribute('aria-pressed', String(marked.has(id)));
  },
  stay: () => reachable,
});

// What is shown ----------------------------------------------------------------------------------------------------

function wanted() {
  const text = fold(find('[data-search]')?.value ?? '').trim();
  const how = find('[data-sort]')?.value ?? 'added';
  const of = filter.startsWith(':') ? filter.slice(1) : null;
  const found = data.tiles.filter((one) => (filter === 'all' || (filter === 'none' ? one.label < 0 : labelOf(one) === of))
    && (text === '' || fold(one.name).includes(text) || fold(labelOf(one)).includes(text)));
  const rank = new Map(data.suggested.map((id, place) => [id, place]));
  const last = (value) => (value === null || value < 0 ? Infinity : value);
  const by = {
    added: (one) => (one.reason ? rank.get(one.id) ?? Infinity : Infinity),
    class: (one) => last(one.label),
    sure: (one) => last(one.margin),
  }[how];
  const order = (a, b) => (a === b ? 0 : a < b ? -1 : 1); // Infinity - Infinity is no number
  if (how === 'name') found.sort((a, b) => collator.compare(a.name, b.name));
  else found.sort((a, b) => order(by(a), by(b)));
  return found;
}

function show() {
  const inside = grid.contains(document.activeElement); // an element that is moved loses the focus
  const before = order;
  const found = wanted();
  grid.classList.toggle('fs-reasons', found.some((one) => one.reason !== ''));
  order = found.map((one) => one.id);
  const shown = new Set(order);
  marked.forEach((id) => { if (!shown.has(id)) marked.delete(id); });
  let to = at;
  if (at !== null && !shown.has(at) && before.includes(at)) { // it is shown no more: the next of those behind it
    to = before.slice(before.indexOf(at)).find((id) => shown.has(id)) ?? order.at(-1) ?? null;
    moved = { id: at, time: performance.now() };
  }
  if (to === null || !shown.has(to)) to = order[0] ?? null;
  if (at !== null) at = to;
  reachable = to;
  board.show(order);
  if (to !== null && inside) focus(to);
  nothing.hidden = data.tiles.length === 0 || order.length > 0;
  nothing.textContent = farshotText('none_here');
  tell();
  listeners.forEach((one) => one());
}

function tell() { // of what Gradio drew, and draws again without it
  element.querySelectorAll('[data-filter]').forEach((chip) => {
    chip.setAttribute('aria-pressed', String(valueOf(chip) === filter));
  });
  const option = find('[data-sort] [value=sure]');
  if (option) option.disabled = !data.model;
  const place = find('[data-said]');
  if (place) {
    place.textContent = marked.size > 0 ? farshotText('chosen', { n: marked.size })
      : farshotText('shown', { n: order.length });
  }
  const all = find('[data-all]');
  if (all) all.textContent = farshotText(marked.size > 0 ? 'choose_none' : 'choose_all');
}

function valueOf(chip) {
  const value = chip.dataset.filter;
  return /^\d+$/.test(value) ? `:${data.classes[Number(value)]?.name ?? ''}` : value;
}

// What the server has ----------------------------------------------------------------------------------------------

let loading = false, again = false;
async function load() {
  again = true;
  if (loading) return;
  loading = true;
  while (again) {
    again = false;
    try {
      const answer = await fetch(new URL('farshot/tiles', document.baseURI), { cache: 'no-store' });
      if (answer.ok) take(await answer.json());
    } catch (error) { // the outbox and the look at the app's state tell of it
      await new Promise((go) => setTimeout(go, RETRY));
      again = true;
    }
  }
  loading = false;
}

function take(told) {
  if (told.version < data.version) return;
  const tiles = told.tiles.map(([id, name, label, margin, reason]) => ({ id, name, label, margin, reason }));
  data = { ...told, tiles };
  byId = new Map(tiles.map((one) => [one.id, one]));
  if (filter.startsWith(':') && !data.classes.some((one) => `:${one.name}` === filter)) filter = 'all';
  show();
}

// Choosing ---------------------------------------------------------------------------------------------------------

function mark(id, on) {
  board.tile(id)?.setAttribute('aria-pressed', String(on));
  if (on) marked.add(id); else marked.delete(id);
}

function markAll(on) {
  (on ? order : [...marked]).forEach((id) => mark(id, on));
  tell();
}

function markRange(from, to) {
  const [first, last] = [board.place(from), board.place(to)].sort((a, b) => a - b);
  if (first < 0) { mark(to, true); return; }
  order.slice(first, last + 1).forEach((id) => mark(id, true));
}

function reach(id) { // with Tab
  reachable = id;
  board.tiles().forEach((tile) => { tile.tabIndex = idOf(tile) === id ? 0 : -1; });
}

function focus(id) {
  reach(id);
  at = id;
  board.focus(id);
}

function behind(ids) { // the picture after the last of these
  const place = board.place(ids[ids.length - 1]), these = new Set(ids);
  return order.slice(place + 1).find((id) => !these.has(id)) ?? order[place] ?? null;
}

// A label or removal of the chosen pictures, or of the one that has the focus.
function act(what, value, from) {
  let ids = order.filter((id) => marked.has(id));
  let then = null;
  if (ids.length === 0 && from !== null) {
    ids = [moved && performance.now() - moved.time < AFTER_MOVE ? moved.id : from];
  }
  if (ids.length > 0 && from !== null) {
    // at once, since whoever labels with the keyboard is faster than the answer
    then = ids.includes(from) ? behind(ids) : from;
    if (then !== null) focus(then);
  }
  moved = null;
  markAll(false);
  outbox.add({ do: what, value, ids, next: then });
}

// What a key from 0 to 9 labels with: the name of the class that the person sees next to it, "" for no class, or null
// where there is none. The name, since another page may have changed the order of the classes.
function classOfKey(key) {
  if (key === '0') return '';
  const name = element.querySelectorAll('[data-do=label]')[Number(key) - 1]?.dataset.value;
  if (name) return name;
  outbox.add({ do: 'no-class', value: '', ids: [], next: null });
  return null;
}

function neighbour(id, key) {
  const place = board.place(id), across = board.across();
  const to = { ArrowRight: place + 1, ArrowLeft: place - 1, ArrowDown: place + across, ArrowUp: place - across,
    Home: 0, End: order.length - 1 }[key];
  return to === undefined || place < 0 ? null : order[Math.min(Math.max(to, 0), order.length - 1)];
}

let before = new Set(); // what was chosen when a rectangle was begun
const drag = rectangle(grid, root, {
  begin() { before = new Set(marked); },
  stretch(box) {
    const inside = new Set(board.within(box));
    for (const id of order) {
      const on = inside.has(id) || before.has(id);
      if (on !== marked.has(id)) mark(id, on);
    }
    tell();
  },
  end: tell,
});
root.addEventListener('click', (event) => {
  if (drag.ended()) { event.stopPropagation(); return; }
  const open = event.target.closest('.fs-open');
  if (open) { window.farshotLarge.open(idOf(open.previousElementSibling)); return; }
  const tile = event.target.closest('.fs-tile');
  if (tile) {
    const id = idOf(tile);
    if (event.shiftKey && anchor !== null) markRange(anchor, id); else mark(id, !marked.has(id));
    anchor = id;
    focus(id);
    tell();
    return;
  }
  const button = event.target.closest('button');
  if (!button || button.disabled) return;
  if (button.matches('[data-filter]')) { filter = valueOf(button); show(); }
  else if (button.matches('[data-all]')) markAll(marked.size === 0);
  else if (button.matches('[data-keys]')) window.farshotKeys();
  else if (button.matches('[data-do=undo], [data-do=redo]')) outbox.add({ do: button.dataset.do, value: '', ids: [], next: null });
  else if (button.dataset.do) act(button.dataset.do, button.dataset.value ?? '', null);
});
root.addEventListener('dblclick', (event) => {
  const tile = event.target.closest('.fs-tile');
  if (tile) window.farshotLarge.open(idOf(tile));
});
root.addEventListener('focusin', (event) => {
  const tile = event.target.closest('.fs-tile');
  if (tile) { at = idOf(tile); reach(at); }
});
root.addEventListener('input', (event) => { if (event.target.matches('[data-search]')) show(); });
root.addEventListener('change', (event) => { if (event.target.matches('[data-sort]')) show(); });
root.addEventListener('submit', (event) => event.preventDefault());

document.addEventListener('keydown', (event) => {
  const target = event.target;
  const here = root.contains(target) || target === document.body;
  if (!here || root.offsetParent === null || target.matches('input, textarea, select, [contenteditable]')) return;
  if (document.querySelector('dialog[open]')) return;
  const tile = target.closest('.fs-tile');
  const id = tile ? idOf(tile) : null;
  const key = event.key;
  if ((event.ctrlKey || event.metaKey) && !event.altKey) {
    if (key.toLowerCase() === 'z') outbox.add({ do: event.shiftKey ? 'redo' : 'undo', value: '', ids: [], next: null });
    else if (key.toLowerCase() === 'a' && order.length > 0) markAll(true);
    else return;
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  const other = id !== null ? neighbour(id, key) : null;
  const chosen = id !== null || marked.size > 0;
  if (other !== null) {
    moved = null;
    if (event.shiftKey) {
      if (!marked.has(id)) anchor = id;
      markRange(anchor ?? id, other);
      tell();
    }
    focus(other);
  } else if (key === '?') {
    window.farshotKeys();
  } else if (key === 'Enter' && tile) {
    window.farshotLarge.open(id);
  } else if (chosen && (/^[0-9]$/.test(key) || key === 'Backspace')) {
    const value = key === 'Backspace' ? '' : classOfKey(key);
    if (value !== null) act('label', value, id);
  } else if (chosen && key === 'Delete') {
    act('remove', '', id);
  } else if (key === 'Escape' && marked.size > 0) {
    markAll(false);
  } else {
    return;
  }
  event.preventDefault();
});

// ------------------------------------------------------------------------------------------------------------------

function measure() { // the bar stays below the message, and tiles are scrolled to below the bar
  const note = document.querySelector('#note');
  const bar = find('.fs-sticky');
  root.style.setProperty('--fs-top', `${note?.offsetHeight ?? 0}px`);
  root.style.setProperty('--fs-covered', `${(note?.offsetHeight ?? 0) + (bar?.offsetHeight ?? 0) + 8}px`);
}
new ResizeObserver(measure).observe(root);

window.farshotBoard = {
  order: () => order,
  picture: (id) => byId.get(id) ?? null,
  labelOf: (place, one) => boardTile.label(place, classOf(one)),
  classOfKey,
  classes: () => [...element.querySelectorAll('[data-do=label]')],
  focus,
  act(what, value, id, then) { outbox.add({ do: what, value, ids: [id], next: then }); },
  undo(what) { outbox.add({ do: what, value: '', ids: [], next: null }); },
  changes(how) { listeners.push(how); },
};

watch('value', () => {
  tell();
  measure();
  setTimeout(measure, 100); // the message is drawn at the same time
  const version = find('[data-version]');
  if (version) outbox.drew(Number(version.dataset.version));
  load();
});
outbox.draws(() => trigger('act', { do: 'draw' }));
outbox.done(load);
load();
