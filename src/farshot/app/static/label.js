// The board of all pictures: filtered, sorted and searched here, chosen with mouse or keys, labelled with 1 to 9. The
// tiles are elements of this script behind those that Gradio draws; the server sends only what they show. What is
// chosen and focused is remembered by picture, never by place.
const AFTER_MOVE = 400; // milliseconds in which a key is meant for a picture that a redraw took from under it
const RETRY = 2000;
const EDGE = 48; // pixels from the window's edge where dragging scrolls
const root = element.parentElement;
const grid = document.createElement('ul');
const nothing = document.createElement('p');
const frame = document.createElement('div');
const marked = new Set(); // the chosen pictures
const items = new Map(); // picture -> its list item
const listeners = [];
let data = { version: 0, classes: [], tiles: [], suggested: [], model: false };
let byId = new Map();
let order = []; // of the pictures that are shown
let filter = 'all'; // all, none, or the name of a class after a colon
let at = null; // the picture that has, or had, the focus
let anchor = null; // where a range begins
let moved = null; // a picture that went away under the focus, and when

grid.className = 'fs-grid';
grid.dataset.mode = 'label';
grid.setAttribute('role', 'list');
nothing.className = 'fs-empty';
nothing.hidden = true;
frame.className = 'fs-frame';
frame.hidden = true;
element.after(grid, nothing, frame);

const find = (what) => element.querySelector(what);
const tileOf = (id) => items.get(id)?.firstElementChild ?? null;
const idOf = (tile) => tile.dataset.id;
const fold = (text) => text.normalize('NFKC').toLowerCase();
const labelOf = (one) => (one.label < 0 ? '' : data.classes[one.label].name);
const collator = new Intl.Collator(window.farshotLanguage, { numeric: true });

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

function add(parent, kind, name, text) {
  const made = parent.appendChild(document.createElement(kind));
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

function newItem(one) {
  const item = document.createElement('li');
  const tile = add(item, 'button', 'fs-tile');
  tile.type = 'button';
  tile.dataset.id = one.id;
  tile.tabIndex = -1;
  const image = add(tile, 'img');
  Object.assign(image, { alt: '', loading: 'lazy', decoding: 'async', width: 112, height: 112, draggable: false });
  image.src = `farshot/thumbnail/${one.id}`;
  add(add(tile, 'span', 'fs-name'), 'bdi', '', one.name);
  add(tile, 'span', 'fs-label');
  const open = add(item, 'button', 'fs-open', '\u2922');
  Object.assign(open, { type: 'button', tabIndex: -1, title: farshotText('large_view') });
  open.setAttribute('aria-label', farshotText('large_view_of', { name: one.name }));
  return item;
}

function showLabel(place, one) {
  place.replaceChildren();
  place.classList.toggle('fs-none', one.label < 0);
  if (one.label < 0) { place.textContent = farshotText('no_class'); return; }
  const known = data.classes[one.label];
  add(place, 'span', 'key', known.letter).style.cssText = known.edge;
  place.append(' ');
  add(place, 'bdi', '', known.name);
}

function update(item, one) {
  const label = labelOf(one);
  const known = one.label < 0 ? '' : data.classes[one.label].letter + data.classes[one.label].edge;
  const now = `${one.label}|${known}|${label}|${one.reason}`;
  if (item.shows === now) return;
  item.shows = now;
  const tile = item.firstElementChild;
  const values = { name: one.name, label: label || farshotText('no_class'), reason: one.reason };
  tile.setAttribute('aria-label', farshotText(one.reason ? 'tile_next' : 'tile', values));
  tile.classList.toggle('fs-suggested', one.reason !== '');
  showLabel(tile.querySelector('.fs-label'), one);
  tile.querySelector('.fs-reason')?.remove();
  if (one.reason) add(add(tile, 'span', 'fs-reason'), 'bdi', '', one.reason);
}

// Elements stay with their pictures; only what is new or elsewhere is moved.
function arrange(found) {
  const shown = new Set(found.map((one) => one.id));
  [...grid.children].forEach((item) => { if (!shown.has(idOf(item.firstElementChild))) item.remove(); });
  items.forEach((item, id) => { if (!byId.has(id)) items.delete(id); });
  let place = grid.firstElementChild;
  for (const one of found) {
    let item = items.get(one.id);
    if (!item) items.set(one.id, item = newItem(one));
    update(item, one);
    if (item !== place && place && place.nextElementSibling === item) { // one went further back
      const out = place;
      place = item;
      out.remove();
    }
    if (item === place) place = place.nextElementSibling;
    else grid.insertBefore(item, place);
  }
}

function show() {
  const active = document.activeElement;
  const inside = grid.contains(active); // an element that is moved loses the focus
  const before = order;
  const found = wanted();
  grid.classList.toggle('fs-reasons', found.some((one) => one.reason !== ''));
  arrange(found);
  order = found.map((one) => one.id);
  const shown = new Set(order);
  marked.forEach((id) => { if (!shown.has(id)) marked.delete(id); });
  order.forEach((id) => tileOf(id).setAttribute('aria-pressed', String(marked.has(id))));
  let to = at;
  if (at !== null && !shown.has(at) && before.includes(at)) { // it is shown no more: the next of those behind it
    to = before.slice(before.indexOf(at)).find((id) => shown.has(id)) ?? order.at(-1) ?? null;
    moved = { id: at, time: performance.now() };
  }
  if (to === null || !shown.has(to)) to = order[0] ?? null;
  if (at !== null) at = to;
  if (to !== null && inside) focus(to); else if (to !== null) reach(to);
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
  tileOf(id)?.setAttribute('aria-pressed', String(on));
  if (on) marked.add(id); else marked.delete(id);
}

function markAll(on) {
  (on ? order : [...marked]).forEach((id) => mark(id, on));
  tell();
}

function markRange(from, to) {
  const [first, last] = [order.indexOf(from), order.indexOf(to)].sort((a, b) => a - b);
  if (first < 0) { mark(to, true); return; }
  order.slice(first, last + 1).forEach((id) => mark(id, true));
}

function reach(id) { // with Tab
  const now = tileOf(id);
  grid.querySelectorAll('.fs-tile[tabindex="0"]').forEach((tile) => { if (tile !== now) tile.tabIndex = -1; });
  if (now) now.tabIndex = 0;
}

function focus(id) {
  reach(id);
  at = id;
  const tile = tileOf(id);
  if (tile && tile !== document.activeElement) tile.focus();
}

function behind(ids) { // the picture after the last of these
  const place = order.indexOf(ids[ids.length - 1]);
  return order.slice(place + 1).find((id) => !ids.includes(id)) ?? order[place] ?? null;
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

function neighbour(id, key) {
  const place = order.indexOf(id);
  const across = getComputedStyle(grid).gridTemplateColumns.split(' ').length;
  const to = { ArrowRight: place + 1, ArrowLeft: place - 1, ArrowDown: place + across, ArrowUp: place - across,
    Home: 0, End: order.length - 1 }[key];
  return to === undefined || place < 0 ? null : order[Math.min(Math.max(to, 0), order.length - 1)];
}

let dragged = false; // the click at the end of a drag chooses nothing
root.addEventListener('click', (event) => {
  if (dragged) { dragged = false; event.stopPropagation(); return; }
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
    act('label', /^[1-9]$/.test(key) ? String(Number(key) - 1) : '', id);
  } else if (chosen && key === 'Delete') {
    act('remove', '', id);
  } else if (key === 'Escape' && marked.size > 0) {
    markAll(false);
  } else {
    return;
  }
  event.preventDefault();
});

// A rectangle of the mouse -----------------------------------------------------------------------------------------

let drag = null; // where it began on the page, where the pointer is in the window, and what was chosen before
grid.addEventListener('pointerdown', (event) => {
  dragged = false;
  if (event.pointerType !== 'mouse' || event.button !== 0 || event.shiftKey) return;
  drag = { x: event.clientX + scrollX, y: event.clientY + scrollY, to: event, before: new Set(marked), on: false };
});
document.addEventListener('pointermove', (event) => {
  if (!drag) return;
  drag.to = event;
  if (drag.on || Math.hypot(event.clientX + scrollX - drag.x, event.clientY + scrollY - drag.y) < 8) return;
  drag.on = true;
  document.body.classList.add('fs-dragging');
  requestAnimationFrame(stretch);
});
for (const end of ['pointerup', 'pointercancel', 'blur']) {
  window.addEventListener(end, (event) => {
    if (!drag) return;
    dragged = drag.on && event.type === 'pointerup' && root.contains(event.target);
    drag = null;
    frame.hidden = true;
    document.body.classList.remove('fs-dragging');
    setTimeout(() => { dragged = false; }, 0); // no click follows where the pointer left the tile
    tell();
  });
}
grid.addEventListener('dragstart', (event) => event.preventDefault());

function stretch() {
  if (!drag) return;
  const { clientX, clientY } = drag.to;
  const ahead = Math.min(0, clientY - EDGE) || Math.max(0, clientY - innerHeight + EDGE);
  if (ahead !== 0) window.scrollBy(0, ahead / 2);
  const box = { left: Math.min(clientX, drag.x - scrollX), right: Math.max(clientX, drag.x - scrollX),
    top: Math.min(clientY, drag.y - scrollY), bottom: Math.max(clientY, drag.y - scrollY) };
  frame.hidden = false;
  Object.assign(frame.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.right - box.left}px`,
    height: `${box.bottom - box.top}px` });
  for (const id of order) {
    const tile = items.get(id).getBoundingClientRect();
    const inside = tile.left < box.right && tile.right > box.left && tile.top < box.bottom && tile.bottom > box.top;
    if (inside !== marked.has(id)) mark(id, inside || drag.before.has(id));
  }
  tell();
  requestAnimationFrame(stretch);
}

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
  labelOf: (place, one) => showLabel(place, one),
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
