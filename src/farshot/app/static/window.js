// Of thousands of tiles only those near the window are in the page, and the few that have to stay. Each lies where it would if all
// were there: rows have one height, so that the place in the order gives row and column.
function tileWindow(grid, { make, load, update, stay }) {
  const FEW = 200; // so many are in the page at once: the browser's own search then finds their names
  const AROUND = 8; // rows above and below the window
  const FAST = 4; // windows a second: what passes faster than this is not loaded, since nobody can look at it
  const REST = 100; // milliseconds without a scroll: it has come to rest
  const items = new Map(); // picture -> its list item
  let order = []; // of all pictures that are shown
  let places = new Map(); // picture -> place in it
  let across = 6; // tiles in a row; as in style.css until it was seen
  let rows = [0, 2 * AROUND]; // first and last in the page, when it was last seen
  let drawn = ''; // what was in the page then
  let passed = { top: 0, at: 0, speed: 0 }; // where the window was, when, and how fast, in windows a second
  let resting = 0; // the timer that notices rest

  function measured() { // null where another tab is in front
    if (grid.offsetParent === null) return null;
    const box = grid.getBoundingClientRect(), style = getComputedStyle(grid);
    const gap = parseFloat(style.columnGap), least = parseFloat(style.gridAutoColumns);
    const found = Math.max(1, Math.floor((box.width + gap) / (least + gap)));
    const apart = parseFloat(style.rowGap), height = parseFloat(style.gridAutoRows);
    return { box, across: found, width: (box.width + gap) / found - gap, height, right: (box.width + gap) / found, down: height + apart,
      tall: Math.max(0, Math.ceil(order.length / found) * (height + apart) - apart) };
  }

  function look() {
    const now = measured();
    if (now === null) return;
    if (now.across !== across) grid.style.setProperty('--fs-across', across = now.across);
    grid.style.minHeight = `${now.tall}px`;
    const first = Math.floor(-now.box.top / now.down), last = Math.floor((innerHeight - now.box.top) / now.down);
    rows = [Math.max(0, first - AROUND), last + AROUND];
  }

  function near() {
    if (order.length <= FEW) return order;
    return order.slice(rows[0] * across, Math.max(0, (rows[1] + 1) * across));
  }

  // Elements stay with their pictures; only what is new or elsewhere is moved, since an element that is moved loses the focus.
  function draw() {
    look();
    const wanted = new Set(near());
    const held = document.activeElement?.closest('.fs-grid') === grid ? document.activeElement.closest('li').firstElementChild.dataset.id : null;
    for (const id of [stay(), held]) if (places.has(id)) wanted.add(id);
    items.forEach((item, id) => { if (!wanted.has(id)) { item.remove(); items.delete(id); } });
    let next = grid.firstElementChild;
    for (const id of [...wanted].sort((a, b) => places.get(a) - places.get(b))) {
      let item = items.get(id);
      if (!item) items.set(id, item = make(id));
      put(item, id);
      if (item !== next && next && next.nextElementSibling === item) { // one went further back
        const out = next;
        next = item;
        out.remove();
      }
      if (item === next) next = next.nextElementSibling;
      else grid.insertBefore(item, next);
    }
    drawn = state();
    if (!isFast()) items.forEach(load);
  }

  const isFast = () => passed.speed > FAST;
  function pace() { // on a scroll
    const top = window.scrollY, at = performance.now();
    const speed = 1000 * Math.abs(top - passed.top) / Math.max(1, at - passed.at) / innerHeight;
    passed = { top, at, speed: (passed.speed + speed) / 2 }; // frames are uneven
    clearTimeout(resting);
    resting = setTimeout(() => { passed.speed = 0; items.forEach(load); }, REST);
  }

  function put(item, id) {
    const place = places.get(id);
    item.style.gridArea = `${Math.floor(place / across) + 1} / ${(place % across) + 1}`;
    item.setAttribute('aria-setsize', order.length);
    item.setAttribute('aria-posinset', place + 1);
    update(item, id);
  }

  const state = () => `${across} ${order.length <= FEW ? '' : rows}`;
  function moved() { // the window, or its size
    look();
    if (state() !== drawn) draw();
  }
  window.addEventListener('scroll', () => { pace(); moved(); }, { passive: true });
  window.addEventListener('resize', moved);
  new ResizeObserver(() => requestAnimationFrame(moved)).observe(grid);

  return {
    show(now) { // these pictures, in this order
      order = now;
      places = new Map(order.map((id, place) => [id, place]));
      draw();
    },
    tile: (id) => items.get(id)?.firstElementChild ?? null, // null where it is not in the page
    tiles: () => [...items.values()].map((item) => item.firstElementChild),
    place: (id) => places.get(id) ?? -1,
    across: () => across,
    focus(id) { // of a tile that stays
      if (!items.has(id)) draw();
      const tile = items.get(id)?.firstElementChild;
      if (tile && tile !== document.activeElement) tile.focus();
      moved(); // the focus has scrolled to it
    },
    within(area) { // pictures whose tiles meet a rectangle of the window
      const now = measured();
      if (now === null) return [];
      return order.filter((_, place) => {
        const left = now.box.left + (place % across) * now.right, top = now.box.top + Math.floor(place / across) * now.down;
        return left < area.right && left + now.width > area.left && top < area.bottom && top + now.height > area.top;
      });
    },
  };
}
