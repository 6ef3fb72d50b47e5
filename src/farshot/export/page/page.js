// What a person does on the page: choose, drop or take pictures, and read the answers.
import { decode } from './reading.js';
import { load, UNLIKE } from './model.js';

const SHOWN = 5; // classes of an answer
const PREVIEW = 176; // pixels
const MOST_ANSWERS = 200; // older ones are removed: previews take memory
const MOST_PIXELS = 50e6; // as farshot refuses them
const MEGABYTE = 1e6;

const at = (id) => document.getElementById(id);
const status = at('status');
let model = null;
let stream = null;
let queue = Promise.resolve();
let waiting = 0;

function made(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

const sure = (probability) => (model.calibrated ? `${(100 * probability).toFixed(1)} %` : probability.toFixed(3));
const label = (answer) => String(answer.ranked[0].label);

// a page in the background is not painted, and goes on all the same
const painted = () => new Promise((then) => {
  if (document.hidden) setTimeout(then);
  else requestAnimationFrame(() => setTimeout(then));
});

/** Do one thing after the other, whether or not those before it failed. */
function enqueue(name, work) {
  waiting += 1;
  queue = queue.then(async () => {
    status.textContent = waiting > 1 ? `Classifying ${name}, ${waiting - 1} more after it.` : `Classifying ${name}.`;
    await painted();
    try {
      status.textContent = await work();
    } catch (error) {
      showFault(name, `It could not be classified (${error.message}).`);
      status.textContent = `${name} was not classified.`;
    }
    waiting -= 1;
  });
}

function preview(bitmap, name) {
  const scale = Math.min(1, PREVIEW / Math.max(bitmap.width, bitmap.height));
  const canvas = made('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', name);
  return canvas;
}

function table(answer) {
  const found = made('table');
  const head = found.createTHead().insertRow();
  ['class', model.calibrated ? 'probability' : 'score'].forEach((word) => {
    const cell = made('th', word);
    cell.scope = 'col';
    head.append(cell);
  });
  const body = found.createTBody();
  answer.ranked.slice(0, SHOWN).forEach(({ label: name, probability }) => {
    const row = body.insertRow();
    row.insertCell().textContent = String(name);
    const cell = row.insertCell();
    const bar = made('span', undefined, 'bar');
    bar.style.setProperty('--share', probability); // through the object model, which the policy allows
    cell.append(bar, sure(probability));
  });
  const more = answer.ranked.length - SHOWN;
  const said = more === 1 ? '1 more class is less likely.' : `${more} more classes are less likely.`;
  return more > 0 ? [found, made('p', said, 'soft')] : [found];
}

function show(...parts) {
  const item = made('li');
  item.append(...parts);
  const before = at('answers');
  before.prepend(item);
  while (before.children.length > MOST_ANSWERS) before.lastChild.remove();
  at('found').hidden = false;
}

function headline(answer) {
  if (answer.unlike) return 'Unlike anything labelled';
  return answer.sure ? label(answer) : `Not sure: ${label(answer)}`;
}

const score = (answer) => (answer.unlike ? `p ${answer.p.toFixed(3)}` : sure(answer.ranked[0].probability));

function showAnswer(name, bitmap, answer) {
  const told = made('div');
  told.append(made('h3', headline(answer), answer.unlike ? 'unlike' : undefined), made('p', name, 'name'));
  if (answer.unlike) {
    told.append(made('p', `It may show none of the classes (p ${answer.p.toFixed(3)}). The most probable is ${label(answer)}.`));
  }
  told.append(...table(answer));
  if (answer.p !== null && !answer.unlike) {
    told.append(made('p', `Likeness to the labelled pictures: p ${answer.p.toFixed(3)}`, 'soft'));
  }
  show(preview(bitmap, name), told);
}

function showFault(name, reason) {
  const told = made('div');
  told.append(made('h3', 'Not read'), made('p', name, 'name'), made('p', reason, 'unlike'));
  show(told);
}

async function answered(name, bitmap) {
  const answer = await model.classify(bitmap);
  showAnswer(name, bitmap, answer);
  return `${name}: ${headline(answer)}, ${score(answer)}`;
}

async function answerFile(file) {
  let bitmap;
  try {
    bitmap = await decode(file);
  } catch (error) {
    showFault(file.name, 'This browser cannot read it as a picture. JPEG, PNG and WebP work.');
    return `${file.name} was not read.`;
  }
  try {
    if (bitmap.width * bitmap.height > MOST_PIXELS) {
      showFault(file.name, 'The picture has over 50 megapixels; scale it down first.');
      return `${file.name} was not read.`;
    }
    return await answered(file.name, bitmap);
  } finally {
    bitmap.close();
  }
}

const add = (files) => [...files].forEach((file) => enqueue(file.name, () => answerFile(file)));

// The camera -----------------------------------------------------------------------------------------------------

const video = at('video');

async function watch(mine) {
  let last = '';
  while (stream === mine) {
    if (video.readyState >= video.HAVE_CURRENT_DATA && waiting === 0) {
      const frame = await createImageBitmap(video);
      const answer = await model.classify(frame);
      frame.close();
      const said = headline(answer);
      at('score').textContent = score(answer);
      if (said !== last) at('live').textContent = said; // changes alone, for those who have it read aloud
      last = said;
    }
    await painted();
  }
}

function stop() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  at('view').hidden = true;
  at('camera').hidden = false;
}

at('camera').addEventListener('click', async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false });
  } catch (error) {
    status.textContent = `The camera cannot be used (${error.message}). Allow it in the browser's settings, or choose a picture.`;
    return;
  }
  video.srcObject = stream;
  at('camera').hidden = true;
  at('view').hidden = false;
  at('keep').focus();
  const mine = stream;
  try {
    await video.play();
    await watch(mine);
  } catch (error) {
    if (stream !== mine) return; // stopped meanwhile
    status.textContent = `The camera stopped (${error.message}).`;
    stop();
  }
});
at('stop').addEventListener('click', () => {
  stop();
  at('camera').focus();
});
let taken = 0;
at('keep').addEventListener('click', () => {
  const frame = createImageBitmap(video); // at the click, not when its turn comes
  taken += 1;
  const name = `picture ${taken}`;
  enqueue(name, async () => {
    const bitmap = await frame;
    return answered(name, bitmap).finally(() => bitmap.close());
  });
});

// Files ----------------------------------------------------------------------------------------------------------

at('files').addEventListener('change', (event) => {
  add([...event.target.files]);
  event.target.value = '';
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('over');
});
document.addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) document.body.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('over');
  if (model) add([...event.dataTransfer.files]);
});

// The start ------------------------------------------------------------------------------------------------------

function describe({ about, calibrated }) {
  at('classes').replaceChildren(...about.classes.map((name) => made('li', String(name))));
  at('count').textContent = `It tells ${about.classes.length} classes apart`;
  at('trust').textContent = calibrated
    ? 'Percentages are calibrated on the labelled pictures: for pictures like those, 90 % is right about nine times in ten.'
    : 'Scores are not calibrated: 0.900 does not mean right nine times in ten.';
  const known = about.labelled_similarity?.length;
  if (known) {
    const least = 1 / (known + 1);
    at('unlike').textContent = least > UNLIKE
      ? `p is how often a picture like the labelled ones is as unlike them as this one. Of ${known} labelled pictures it is at least ${least.toFixed(2)}: too few for it to mark pictures that show something else.`
      : `p is how often a picture like the labelled ones is as unlike them as this one. Pictures with p of at most ${UNLIKE} are marked as unlike anything labelled; so are about one in twenty pictures that do belong to a class.`;
  }
  at('unlike').hidden = !known;
  at('made').textContent = `${about.base_model}, adapted with ${about.method} by farshot ${about.farshot_version}.`;
}

async function start() {
  const what = { runtime: 'the runtime', model: 'the model' };
  model = await load((name, done, whole) => {
    const of = whole ? ` of ${(whole / MEGABYTE).toFixed(1)}` : '';
    status.textContent = `Loading ${what[name]}: ${(done / MEGABYTE).toFixed(1)}${of} MB.`;
  });
  describe(model);
  at('take').hidden = false;
  if (!navigator.mediaDevices?.getUserMedia) {
    at('camera').hidden = true;
    at('insecure').hidden = false;
  }
  status.textContent = 'Ready.';
}

start().catch((error) => {
  status.textContent = `The model could not be loaded (${error.message}). Serve the whole folder and load the page again.`;
});
