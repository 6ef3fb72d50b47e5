// The files that are on their way to the server, from both boxes: each goes by itself and has its own state.
const uploads = (window.farshotUploads ??= (() => {
  const AT_ONCE = 4, TRIES = 3, ALIVE = 10000, REDRAW = 1500, LOST = 4000, MOST_LISTED = 20;
  // letters of folders in an address; a relay takes shorter ones
  const MOST_FOLDERS = /^(localhost|127\.)/.test(window.location.hostname) ? 40000 : 6000;
  const files = []; // {file, path, into, wrapped, folders, state, reason}
  const boxes = [];
  let running = 0, version = 0, redrawn = 0, timer = null, looking = false, named = 0;

  const of = (...states) => files.filter((one) => states.includes(one.state));
  const kinds = (kind) => files.filter((one) => one.kind === kind);
  const open = () => of('waiting', 'sending').length;
  const later = (time) => new Promise((go) => setTimeout(go, time));

  async function alive() {
    try {
      const address = new URL('farshot/alive', document.baseURI);
      return (await fetch(address, { cache: 'no-store', signal: AbortSignal.timeout(ALIVE) })).ok;
    } catch (error) {
      return false;
    }
  }

  // The server may need long for a zip, so a missing answer is a fault only where it does not answer at all.
  async function post(one) {
    const address = new URL('farshot/upload', document.baseURI);
    for (const name of ['path', 'into', 'wrapped', 'kind']) address.searchParams.set(name === 'path' ? 'name' : name, one[name]);
    for (const folder of one.folders) address.searchParams.append('folder', folder);
    const stop = new AbortController();
    const watch = setInterval(async () => { if (!(await alive()) && !(await alive())) stop.abort(); }, ALIVE);
    try {
      return await fetch(address, { method: 'POST', body: one.file, headers: { 'x-farshot': '1' }, signal: stop.signal });
    } finally {
      clearInterval(watch);
    }
  }

  async function send(one) {
    for (let left = TRIES; left > 0; left -= 1) {
      let answer = null;
      try {
        answer = await post(one);
        const told = await answer.json();
        if (answer.ok || answer.status === 413) {
          if (told.labels) [one.state, one.reason] = ['labels', ''];
          else [one.state, one.reason] = told.refused ? ['refused', told.refused] : [told.new ? 'new' : 'same', ''];
          one.count = told.new ?? 0;
          version = Math.max(version, told.version ?? 0);
          return;
        }
        one.reason = told.refused;
      } catch (error) {
        one.reason = farshotText('did_not_answer');
        if (left > 1) await later(1000);
      }
    }
    one.state = 'failed';
  }

  const isTable = (one) => /\.csv$/i.test(one.path);

  function next() { // tables of labels last, since they are about pictures that have arrived
    const waiting = of('waiting');
    return waiting.find((one) => !isTable(one)) ?? (of('sending').length === 0 ? waiting[0] : undefined);
  }

  async function worker() {
    running += 1;
    for (let one = next(); one; one = next()) {
      one.state = 'sending';
      show();
      await send(one);
      one.file = one.state === 'failed' ? one.file : null; // memory
      show();
      redraw(false);
    }
    running -= 1;
    if (running === 0) redraw(true);
  }

  function redraw(last) {
    const early = redrawn + REDRAW - performance.now();
    clearTimeout(timer);
    if (!last && early > 0) {
      timer = setTimeout(() => redraw(false), early);
      return;
    }
    redrawn = performance.now();
    looking = last && of('new', 'same', 'refused', 'labels').length > 0;
    show();
    boxes[0]?.received(last); // an event of Gradio, which may be lost: the last is sent again until it is drawn
    if (last) timer = setTimeout(() => { if (!window.farshotOutbox?.shows(version)) redraw(true); }, LOST);
  }

  function start() {
    while (running < AT_ONCE && next()) worker();
  }

  function summary(kind) {
    const files = kinds(kind);
    const of = (...states) => files.filter((one) => states.includes(one.state));
    const open = () => of('waiting', 'sending').length;
    const words = [];
    const say = (n, key) => { if (n > 0) words.push(farshotText(key, { n })); };
    say(of('new').reduce((sum, one) => sum + one.count, 0), 'files_new');
    say(of('same').length, 'files_same');
    say(of('labels').length, 'files_labels');
    say(of('refused').length, 'files_refused');
    say(of('failed').length, 'files_failed');
    const n = files.length;
    const line = open() > 0 ? farshotText('files_sent_of', { done: n - open(), n }) : farshotText('files_sent', { n });
    return words.length > 0 ? farshotText('files_summary', { line, words: words.join(', ') }) : farshotText('files_line', { line });
  }

  function show() {
    for (const { element, kind } of boxes) {
      const files = kinds(kind);
      const of = (...states) => files.filter((one) => states.includes(one.state));
      const open = () => of('waiting', 'sending').length;
      const faults = of('failed', 'refused');
      const place = element.querySelector('.fs-sending');
      place.replaceChildren();
      if (files.length === 0) continue;
      const add = (kind, text, into = place) => {
        const made = into.appendChild(document.createElement(kind));
        if (text) made.textContent = text;
        return made;
      };
      add('p', open() === 0 && of('failed').length === files.length ? farshotText('files_nothing')
        : looking && open() === 0 ? farshotText('files_looking', { summary: summary(kind) }) : summary(kind));
      if (open() > 0) {
        const bar = add('progress');
        bar.max = files.length;
        bar.value = files.length - open();
        bar.setAttribute('aria-label', farshotText('files_progress'));
      }
      if (faults.length > 0) {
        const list = add('ul');
        faults.slice(0, MOST_LISTED).forEach((one) => add('li', `${one.path}: ${one.reason}`, list));
        if (faults.length > MOST_LISTED) add('li', farshotText('and_more', { n: faults.length - MOST_LISTED }), list);
      }
      if (of('failed').length > 0) {
        const button = add('button', farshotText('files_again', { n: of('failed').length }));
        button.type = 'button';
        button.className = 'fs-chip';
        button.addEventListener('click', again);
      }
    }
  }

  function again() {
    of('failed').forEach((one) => { one.state = 'waiting'; });
    show();
    start();
  }

  window.addEventListener('beforeunload', (event) => {
    if (open() > 0 || of('failed').length > 0) farshotStay(event);
  }, { capture: true });

  return {
    box(element, kind, received) { boxes.push({ element, kind, received }); },
    // files of one selection, by their paths, and the class that they all get; those without a file have a reason
    add(found, into, kind = '') {
      if (found.length === 0) return;
      if (open() === 0 && of('failed').length === 0) files.length = 0; // a new summary
      const folders = found.filter((one) => one.file).map((one) => one.path.split('/').slice(0, -1));
      const tops = new Set(folders.map((inside) => inside[0] ?? null));
      const wrapped = tops.size === 1 && folders.some((inside) => inside.length > 1) ? '1' : '0';
      const all = [...new Set(folders.map((inside) => inside.join('/')))];
      const written = new URLSearchParams(all.map((one) => ['folder', one])).toString();
      const told = written.length > MOST_FOLDERS ? [] : all;
      const common = { into, kind, wrapped, folders: told, reason: '', count: 0 };
      found.forEach((one) => files.push({ ...common, ...one, state: one.file ? 'waiting' : 'refused' }));
      looking = false;
      show();
      start();
    },
    // a file name of something that has none
    named(what, kind) {
      named += 1;
      return `${what}-${new Date().toISOString().slice(0, 19).replace(/\D/g, '-')}-${named}.${kind}`;
    },
    looked() { looking = false; show(); },
  };
})());
