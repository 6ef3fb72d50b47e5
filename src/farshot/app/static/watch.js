// A page that did not begin a job itself shows it, too, and one whose app has ended does not show it for ever.
const LOOK = 2000; // milliseconds between two looks
const MOST_FAILED = 2; // looks without an answer before the page says so
const progress = () => document.querySelector('#progress progress');
let app = null; // the start of the app that the page belongs to
let failed = 0, different = 0;

function stopped() {
  const place = progress()?.closest('.fs-progress');
  if (place) place.textContent = farshotText('app_stopped');
}

// The tab's title: how far a job is, and that it has ended until the person is back.
const plain = document.title;
let ended = null; // jobs that had ended at the last look; null before the first
let running = false;
function title(job) {
  running = job.running;
  if (running) document.title = `${job.total > 0 ? `${Math.round((100 * job.done) / job.total)} %` : '…'} ${plain}`;
  else if (ended !== null && job.ended > ended) document.title = { done: `✓ ${plain}`, failed: `! ${plain}` }[job.how] ?? plain;
  ended = job.ended;
}
['pointerdown', 'keydown', 'focus'].forEach((name) => window.addEventListener(name, () => {
  if (!running) document.title = plain;
}));

async function look() {
  let now;
  try {
    const answer = await fetch(new URL('farshot/status', document.baseURI), { cache: 'no-store', signal: AbortSignal.timeout(5000) });
    if (answer.status === 404) { location.reload(); return; } // the project was deleted
    if (!answer.ok) return;
    now = await answer.json();
    failed = 0;
    title(now.job);
  } catch {
    failed += 1;
    if (failed >= MOST_FAILED) {
      stopped();
      document.title = plain;
    }
    return;
  }
  if (app !== null && now.app !== app && !document.querySelector('.fs-sending progress, .fs-sending button')) {
    await window.farshotOutbox.drained(); // labels and files that wait for the app come first
    location.reload();
    return;
  }
  app ??= now.app;
  // right after a click the page may lag behind
  if (document.hidden) return;
  different = now.busy === (progress() !== null) ? 0 : different + 1;
  if (different >= 2) {
    different = 0;
    window.farshotOutbox.redraw();
  }
}

(async () => {
  while (true) {
    await new Promise((go) => setTimeout(go, LOOK));
    await look();
  }
})();
