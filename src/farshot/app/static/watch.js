// A page that did not begin a job itself shows it, too, and one whose app has ended does not show it for ever.
const LOOK = 2000; // milliseconds between two looks
const MOST_FAILED = 2; // looks without an answer before the page says so
const progress = () => document.querySelector('#progress progress');
let app = null; // the start of the app that the page belongs to
let failed = 0, different = 0;

function stopped() {
  const place = progress()?.closest('.fs-progress');
  if (place) place.textContent = 'The app does not answer. What it was computing may have been stopped.';
}

async function look() {
  let now;
  try {
    const answer = await fetch(new URL('farshot/status', document.baseURI), { cache: 'no-store', signal: AbortSignal.timeout(5000) });
    if (answer.status === 404) { location.reload(); return; } // the project was deleted
    if (!answer.ok) return;
    now = await answer.json();
    failed = 0;
  } catch {
    failed += 1;
    if (failed >= MOST_FAILED) stopped();
    return;
  }
  if (app !== null && now.app !== app && !document.querySelector('.fs-sending progress, .fs-sending button')) {
    await window.farshotOutbox.drained(); // labels and files that wait for the app come first
    location.reload();
    return;
  }
  app ??= now.app;
  // right after a click the page may lag behind
  different = now.busy === (progress() !== null) ? 0 : different + 1;
  if (different >= 2) {
    different = 0;
    window.farshotOutbox.redraw();
  }
}

(async () => {
  while (true) {
    await new Promise((go) => setTimeout(go, LOOK));
    if (!document.hidden) await look();
  }
})();
