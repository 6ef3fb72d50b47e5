// The large view: one picture with zoom, labelled by the keys of the board. It labels only the picture that is shown.
const view = element.querySelector('.fs-large');
const stage = view.querySelector('.fs-stage');
const image = stage.querySelector('img');
const part = (name) => view.querySelector(`[data-${name}]`);
const STEP = 1.25, MOST = 16, PAN = 80;
const board = () => window.farshotBoard;
const source = (id) => `farshot/large/${id}`;
let id = null; // the picture
let place = 0; // of it on the board, the last time that it was there
let seen = false; // whether it, and not the one before, is on the screen
let scale = 1, x = 0, y = 0; // 1: all of it
const pointers = new Map();

function placed() {
  const room = [stage.clientWidth * (scale - 1) / 2, stage.clientHeight * (scale - 1) / 2];
  x = Math.min(Math.max(x, -room[0]), room[0]);
  y = Math.min(Math.max(y, -room[1]), room[1]);
  image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  part('zoom').textContent = `${Math.round(100 * scale)} %`;
  stage.classList.toggle('fs-enlarged', scale > 1);
}

// by a factor, around a point of the window; without one around the middle
function zoom(factor, point) {
  const next = Math.min(Math.max(scale * factor, 1), MOST);
  const box = stage.getBoundingClientRect();
  const at = point ? [point.x - box.left - box.width / 2, point.y - box.top - box.height / 2] : [0, 0];
  x = at[0] - (at[0] - x) * (next / scale);
  y = at[1] - (at[1] - y) * (next / scale);
  scale = next;
  placed();
}

function fit() { scale = 1; x = 0; y = 0; placed(); }

function pan(right, down) { x -= right; y -= down; placed(); }

function tell() {
  const one = board().picture(id);
  if (!one) return;
  view.querySelector('h2').textContent = one.name;
  board().labelOf(part('class'), one);
  const order = board().order();
  if (order.includes(id)) place = order.indexOf(id);
  part('place').textContent = order.includes(id) ? farshotText('place', { place: place + 1, n: order.length }) : '';
  const chips = board().classes().map((chip) => chip.cloneNode(true));
  chips.filter((chip) => !chip.dataset.value).forEach((chip) => { chip.querySelector('kbd').textContent = farshotText('backspace'); });
  const focused = [...part('classes').children].indexOf(document.activeElement);
  part('classes').replaceChildren(...chips);
  chips[focused]?.focus();
  view.querySelector('[data-large=previous]').disabled = neighbour(-1) === null;
  view.querySelector('[data-large=next]').disabled = neighbour(1) === null;
}

function neighbour(step) {
  const order = board().order();
  const now = order.indexOf(id);
  if (now >= 0) return order[now + step] ?? null;
  return order[step > 0 ? place : place - 1] ?? null; // it is no longer among those that are shown
}

function display(next) {
  id = next;
  seen = false;
  part('fault').hidden = true;
  image.classList.add('fs-unseen');
  image.alt = board().picture(id)?.name ?? '';
  image.src = source(id);
  fit();
  tell();
}

image.addEventListener('load', () => {
  if (!image.src.endsWith(source(id))) return;
  seen = true;
  image.classList.remove('fs-unseen');
  const next = neighbour(1);
  if (next) new Image().src = source(next); // so that it is there at once
});
image.addEventListener('error', () => { part('fault').hidden = false; });

function go(next) { if (next !== null && next !== undefined) display(next); }

function act(what, value) {
  if (!seen && what === 'label') return; // nobody has seen it yet
  const next = neighbour(1) ?? (what === 'remove' ? neighbour(-1) : id);
  board().act(what, value, id, next);
  if (next === null) view.close();
  else if (next !== id) display(next);
}

view.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const what = button.dataset.large;
  if (button.dataset.do === 'label') act('label', button.dataset.value);
  else if (what === 'close') view.close();
  else if (what === 'previous') go(neighbour(-1));
  else if (what === 'next') go(neighbour(1));
  else if (what === 'in') zoom(STEP);
  else if (what === 'out') zoom(1 / STEP);
  else if (what === 'fit') fit();
  else if (what === 'undo') board().undo('undo');
  else if (what === 'keys') window.farshotKeys();
});

view.addEventListener('keydown', (event) => {
  const key = event.key, order = board().order();
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === 'z') {
    board().undo(event.shiftKey ? 'redo' : 'undo');
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = { ArrowLeft: [-PAN, 0], ArrowRight: [PAN, 0], ArrowUp: [0, -PAN], ArrowDown: [0, PAN] }[key];
  if (arrow) {
    if (scale > 1) pan(...arrow);
    else go(neighbour(arrow[0] + arrow[1] > 0 ? 1 : -1));
  } else if (/^[1-9]$/.test(key)) {
    const value = board().classOfKey(key);
    if (value !== null) act('label', value);
  }
  else if (key === 'Backspace') act('label', '');
  else if (key === 'Delete') act('remove', '');
  else if (key === '+' || key === '=') zoom(STEP);
  else if (key === '-') zoom(1 / STEP);
  else if (key === '0') fit();
  else if (key === 'PageUp') go(neighbour(-1));
  else if (key === 'PageDown') go(neighbour(1));
  else if (key === 'Home') go(order[0]);
  else if (key === 'End') go(order.at(-1));
  else if (key === '?') window.farshotKeys();
  else return;
  event.preventDefault();
});

stage.addEventListener('wheel', (event) => {
  event.preventDefault();
  zoom(event.deltaY < 0 ? STEP : 1 / STEP, { x: event.clientX, y: event.clientY });
}, { passive: false });
stage.addEventListener('pointerdown', (event) => {
  pointers.set(event.pointerId, event);
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener('pointermove', (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const other = [...pointers].find(([pointer]) => pointer !== event.pointerId)?.[1];
  if (other) { // two fingers
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    zoom(apart(event) / Math.max(apart(before), 1), { x: (event.clientX + other.clientX) / 2, y: (event.clientY + other.clientY) / 2 });
  } else {
    pan(before.clientX - event.clientX, before.clientY - event.clientY);
  }
  pointers.set(event.pointerId, event);
});
for (const end of ['pointerup', 'pointercancel']) stage.addEventListener(end, (event) => pointers.delete(event.pointerId));

view.addEventListener('close', () => {
  const last = id;
  id = null;
  image.removeAttribute('src');
  pointers.clear();
  if (board().order().includes(last)) board().focus(last);
  else if (board().order().length > 0) board().focus(board().order()[Math.min(place, board().order().length - 1)]);
});

window.farshotLarge = {
  open(which) {
    if (!window.farshotLarge.hears) board().changes(() => { if (id !== null) tell(); });
    window.farshotLarge.hears = true;
    if (!view.open) view.showModal();
    display(which);
    view.querySelector('[data-large=close]').focus();
  },
};
