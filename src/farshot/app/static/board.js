// Pictures as tiles: chosen with clicks or keys, labelled with 1 to 9. Actions are sent to Python as 'act'.
let next = null; // the tile that has the focus once the server has drawn the board again

const tiles = () => [...element.querySelectorAll('.fs-tile')];
const chosen = () => tiles().filter((tile) => tile.getAttribute('aria-pressed') === 'true');
const idOf = (tile) => tile.dataset.id;
const press = (tile, on) => tile.setAttribute('aria-pressed', String(on));
const shows = (tile) => tile.closest('.fs-grid').dataset.mode === 'show';

function focus(tile) {
  tiles().forEach((other) => { other.tabIndex = other === tile ? 0 : -1; });
  tile.focus();
}

function act(what, value, from) {
  const marked = from && shows(from) ? [] : chosen(); // where a click shows a tile, the focus is meant
  const meant = marked.length > 0 ? marked : from ? [from] : [];
  const panel = element.querySelector('[data-picture]'); // the picture that the panel explains
  let then = null;
  if (meant.length > 0 && from) {
    // at once, since whoever labels with the keyboard is faster than the answer
    const all = tiles();
    const after = all[all.indexOf(meant[meant.length - 1]) + 1] || from;
    next = idOf(after);
    then = next;
    focus(after);
  }
  meant.forEach((tile) => press(tile, false));
  const ids = meant.length > 0 || !panel ? meant.map(idOf) : [panel.dataset.picture];
  trigger('act', { do: what, value: value ?? '', ids, next: then });
}

function choose(tile) {
  focus(tile);
  if (shows(tile)) {
    tiles().forEach((other) => press(other, other === tile));
    next = idOf(tile);
    trigger('act', { do: 'show', value: '', ids: [idOf(tile)] });
  } else {
    press(tile, tile.getAttribute('aria-pressed') !== 'true');
  }
}

function neighbour(tile, key) {
  const all = tiles();
  const at = all.indexOf(tile);
  const first = all[0].getBoundingClientRect().top;
  const across = Math.max(1, all.filter((other) => other.getBoundingClientRect().top === first).length);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across,
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

element.addEventListener('keydown', (event) => {
  const tile = event.target.closest('.fs-tile');
  if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
  const other = neighbour(tile, event.key);
  if (other) {
    focus(other);
  } else if (/^[0-9]$/.test(event.key)) {
    const value = event.key === '0' ? '' : String(Number(event.key) - 1);
    act(shows(tile) ? 'correct' : 'label', value, tile);
  } else if (event.key === 'Delete' && !shows(tile)) {
    act('remove', '', tile);
  } else {
    return;
  }
  event.preventDefault();
});

watch('value', () => {
  const tile = next && tiles().find((one) => idOf(one) === next);
  const elsewhere = document.activeElement && document.activeElement !== document.body;
  if (tile && !(elsewhere && !element.contains(document.activeElement))) focus(tile);
});
