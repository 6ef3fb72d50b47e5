// The model: ONNX Runtime's WebAssembly on one thread, which needs no special headers from the server. It runs in
// the page and not in a worker, since the page's policy against requests to others does not hold in a worker.
import * as ort from './onnxruntime-web.js';
import { decode, pixelsOf } from './reading.js';

export const UNLIKE = 0.05; // p-values of at most this are called unlike; it takes 19 labelled pictures

async function bytes(name, tell) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: the server answered ${answer.status}`);
  const whole = Number(answer.headers.get('content-length'));
  const reader = answer.body.getReader();
  const parts = [];
  let done = 0;
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    parts.push(value);
    done += value.length;
    tell(done, whole);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Load the model; `tell(name, done, whole)` is called with bytes. */
export async function load(tell = () => {}) {
  const about = await (await fetch('export.json')).json();
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await bytes('onnxruntime-web.wasm', (...said) => tell('runtime', ...said));
  const file = await bytes(about.file, (...said) => tell('model', ...said));
  return new Model(about, await ort.InferenceSession.create(file, { executionProviders: ['wasm'] }));
}

class Model {
  constructor(about, session) {
    this.about = about;
    this.session = session;
    this.turn = Promise.resolve(); // ends with the run before; a session does one at a time
    this.calibrated = about.temperature !== 1; // a percentage only where the probabilities are calibrated
  }

  /** Classify a picture file. */
  async classifyFile(file) {
    const bitmap = await decode(file);
    try {
      return await this.classify(bitmap);
    } finally {
      bitmap.close();
    }
  }

  /**
   * Classify a bitmap: probabilities in the order of the classes, classes with the most probable first, and where
   * the model knows its labelled pictures the p-value, small where the picture is unlike all of them.
   */
  async classify(bitmap) {
    const { size } = this.about.images;
    const pixels = new ort.Tensor('uint8', pixelsOf(bitmap, this.about.images), [1, size, size, 3]);
    const run = this.turn.then(() => this.session.run({ pixels }));
    this.turn = run.catch(() => {});
    const found = await run;
    const probabilities = Array.from(found.probabilities.data);
    const order = probabilities.map((_, index) => index);
    order.sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const ranked = order.map((index) => ({ label: this.about.classes[index], probability: probabilities[index] }));
    return { probabilities, ranked, sure: this.sure(ranked[0].probability), ...this.trust(found.similarity) };
  }

  /** Whether a probability reaches the limit that the model was given; true where it has none. */
  sure(probability) {
    const { limit } = this.about;
    return !limit || (limit.probability !== null && probability >= limit.probability - 1e-6);
  }

  trust(similarity) {
    const known = this.about.labelled_similarity;
    if (similarity === undefined || !known) return { p: null, unlike: false };
    const below = known.filter((one) => one <= similarity.data[0] + 1e-6).length;
    const p = (1 + below) / (1 + known.length);
    return { p, unlike: p <= UNLIKE };
  }
}
