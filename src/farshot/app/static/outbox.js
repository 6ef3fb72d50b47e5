// What the person does goes to the server one by one, in order, until it is acknowledged; then the page is drawn.
// One for all boards of the page. Numbers let the server know what it has had before an answer was lost.
const outbox = (window.farshotOutbox ??= (() => {
  const AT_ONCE = 200, MOST_IDS = 10000, PATIENCE = 30000, REDRAW = 4000;
  const page = [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(16)).join('');
  const waiting = [];
  const drained = [];
  let done = 0, sending = false, acknowledged = 0, drawn = 0, redraw = null, timer = null, heard = null;

  const later = (time) => new Promise((go) => setTimeout(go, time));
  function tell(text) {
    let place = document.getElementById('fs-outbox');
    if (!place) {
      if (!text) return;
      place = document.body.appendChild(document.createElement('div'));
      place.id = 'fs-outbox';
      place.setAttribute('role', 'status');
    }
    place.textContent = text;
    place.hidden = !text;
  }

  function draw() { // an event of Gradio, which may be lost: asked for again until the page shows it
    clearTimeout(timer);
    if (!redraw || drawn >= acknowledged) return;
    redraw();
    timer = setTimeout(draw, REDRAW);
  }

  function next() { // as many as the server takes at once
    let ids = 0;
    const most = waiting.slice(0, AT_ONCE).findIndex((act) => { ids += act.ids.length; return ids > MOST_IDS; });
    return waiting.slice(0, most < 0 ? AT_ONCE : Math.max(1, most));
  }

  async function send(acts) {
    const answer = await fetch(new URL('farshot/act', document.baseURI), {
      method: 'POST',
      headers: { 'x-farshot': '1', 'content-type': 'application/json' },
      body: JSON.stringify({ page, first: done + 1, acts }),
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.ok) return (await answer.json()).version;
    // these will not be done, however often they are asked for: no such acts, or the project was deleted
    if ([400, 404, 413].includes(answer.status)) return 0;
    // the others may be once the app knows this browser again
    throw Object.assign(new Error(answer.statusText), { refused: answer.status < 500 });
  }

  async function flush() {
    if (sending) return;
    sending = true;
    let pause = 500;
    const slow = setTimeout(() => tell(farshotText('waits', { n: waiting.length })), 1500);
    while (waiting.length > 0) {
      const acts = next();
      try {
        const version = await send(acts);
        waiting.splice(0, acts.length);
        done += acts.length;
        acknowledged = Math.max(acknowledged, version);
        pause = 500;
        tell(version ? '' : farshotText('page_unknown'));
        heard?.();
        draw();
      } catch (error) {
        tell(farshotText(error.refused ? 'waits_refused' : 'waits_here', { n: waiting.length }));
        await later(pause);
        pause = Math.min(2 * pause, 8000);
      }
    }
    clearTimeout(slow);
    sending = false;
    drained.splice(0).forEach((go) => go());
  }

  window.addEventListener('beforeunload', (event) => { if (waiting.length > 0) farshotStay(event); }, { capture: true });

  return {
    add(act) { waiting.push(act); flush(); },
    drained: () => new Promise((go) => { if (sending) drained.push(go); else go(); }),
    shows: (version) => drawn >= version,
    draws(how) { redraw = how; },
    done(how) { heard = how; }, // called as soon as the server has something, before the page is drawn
    redraw() { redraw?.(); },
    drew(version) { drawn = Math.max(drawn, version); if (drawn >= acknowledged) clearTimeout(timer); },
  };
})());
