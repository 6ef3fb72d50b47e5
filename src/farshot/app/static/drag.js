// A rectangle of the mouse over the tiles, which scrolls at the window's edge.
function rectangle(grid, root, { begin, stretch, end }) {
  const EDGE = 48; // pixels from the window's edge where dragging scrolls
  const frame = document.createElement('div');
  let drag = null; // where it began on the page, and where the pointer is in the window
  let dragged = false; // the click at the end of a drag chooses nothing
  frame.className = 'fs-frame';
  frame.hidden = true;
  grid.after(frame);

  grid.addEventListener('pointerdown', (event) => {
    dragged = false;
    if (event.pointerType !== 'mouse' || event.button !== 0 || event.shiftKey) return;
    drag = { x: event.clientX + scrollX, y: event.clientY + scrollY, to: event, on: false };
  });
  document.addEventListener('pointermove', (event) => {
    if (!drag) return;
    drag.to = event;
    if (drag.on || Math.hypot(event.clientX + scrollX - drag.x, event.clientY + scrollY - drag.y) < 8) return;
    drag.on = true;
    document.body.classList.add('fs-dragging');
    begin();
    requestAnimationFrame(step);
  });
  for (const name of ['pointerup', 'pointercancel', 'blur']) {
    window.addEventListener(name, (event) => {
      if (!drag) return;
      dragged = drag.on && event.type === 'pointerup' && root.contains(event.target);
      drag = null;
      frame.hidden = true;
      document.body.classList.remove('fs-dragging');
      setTimeout(() => { dragged = false; }, 0); // no click follows where the pointer left the tile
      end();
    });
  }
  grid.addEventListener('dragstart', (event) => event.preventDefault());

  function step() {
    if (!drag) return;
    const { clientX, clientY } = drag.to;
    const ahead = Math.min(0, clientY - EDGE) || Math.max(0, clientY - innerHeight + EDGE);
    if (ahead !== 0) window.scrollBy(0, ahead / 2);
    const box = { left: Math.min(clientX, drag.x - scrollX), right: Math.max(clientX, drag.x - scrollX),
      top: Math.min(clientY, drag.y - scrollY), bottom: Math.max(clientY, drag.y - scrollY) };
    frame.hidden = false;
    Object.assign(frame.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.right - box.left}px`, height: `${box.bottom - box.top}px` });
    stretch(box);
    requestAnimationFrame(step);
  }

  return { ended() { const was = dragged; dragged = false; return was; } }; // whether this click ends a drag
}
