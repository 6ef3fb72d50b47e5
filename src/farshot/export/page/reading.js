// From a decoded picture to the pixels that the model takes, as farshot/images/preprocess.py does it with Pillow.
// drawImage would resize without antialiasing, or with a filter that differs by browser. Weights are rounded to
// 22 bits and values to 8 bits between the passes, as in Pillow's Resample.c: the numbers are the same.
const BITS = 22;
const LONGEST_RATIO = 64; // of a longer picture only the middle is resized
const TALL_RATIO = 100; // a taller picture is resized along its columns first
const STRIP_PIXELS = 1 << 20; // read at once: browsers limit the area of a canvas, phones their memory
const HALF = 1 << (BITS - 1);

const rounded = (sum) => Math.min(255, Math.max(0, sum >> BITS));

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const FILTERS = {
  BOX: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  BILINEAR: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  HAMMING: [1, (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI)))],
  BICUBIC: [2, bicubic],
  LANCZOS: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function bicubic(value) {
  const x = Math.abs(value);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/** For each of `to` places, the first of `from` values that it is made of and their weights, in 2^-22. */
export function weightsOf(from, to, filter) {
  if (filter === 'NEAREST') return nearest(from, to);
  const [support, weight] = FILTERS[filter];
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + support * stretch + 0.5));
    const exact = [];
    for (let i = first; i < end; i += 1) exact.push(weight((i - centre + 0.5) * (1 / stretch)));
    const total = exact.reduce((sum, one) => sum + one, 0);
    const whole = exact.map((one) => {
      const share = (total === 0 ? one : one / total) * (1 << BITS);
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    return { first, weights: Int32Array.from(whole) };
  });
}

function nearest(from, to) {
  const found = [];
  for (let place = 0, at = from / to * 0.5; place < to; place += 1, at += from / to) {
    found.push({ first: Math.min(from - 1, Math.trunc(at)), weights: Int32Array.of(1 << BITS) });
  }
  return found;
}

/** How a picture of this size is cut, resized and cut again; `images` is that of export.json. */
export function geometry(width, height, images) {
  const { size, resize } = images;
  const part = { left: 0, top: 0, width, height };
  let target = { width: resize.width, height: resize.height };
  if (resize.short_side !== undefined) {
    const most = LONGEST_RATIO * Math.min(width, height);
    part.width = Math.min(width, most);
    part.height = Math.min(height, most);
    part.left = Math.floor((width - part.width) / 2);
    part.top = Math.floor((height - part.height) / 2);
    const short = Math.min(part.width, part.height);
    const scaled = (side) => (side === short ? resize.short_side : Math.trunc(resize.short_side * side / short));
    target = { width: scaled(part.width), height: scaled(part.height) };
  }
  const corner = (side) => {
    const edge = (side - size) / 2;
    if (images.corner === 'down' || Number.isInteger(edge)) return Math.floor(edge);
    return 2 * Math.round(edge / 2); // halves to even
  };
  return { part, target, left: corner(target.width), top: corner(target.height) };
}

/**
 * RGB values of the square that the model takes, black where the picture is too small for it.
 *
 * `rows(top, count)` gives RGBA values of so many rows of the part that `geometry` chose.
 */
export function resized(rows, { part, target, left, top }, images) {
  const { size } = images;
  const filter = images.resample.split('.').pop();
  const view = (side, from) => [Math.max(0, from), Math.min(side, from + size)];
  let picture = { rows, ...part, channels: 4 };
  if (part.height > TALL_RATIO * part.width && target.height < part.height) { // Pillow's order for tall pictures
    const low = resample(picture, { width: part.width, height: target.height }, filter);
    picture = { rows: (y) => low.subarray(y * part.width * 3), width: part.width, height: target.height, channels: 3 };
  }
  const found = resample(picture, target, filter, view(target.width, left), view(target.height, top));
  const pixels = new Uint8Array(size * size * 3);
  const width = Math.min(target.width, size) * 3;
  for (let y = 0; y * width < found.length; y += 1) {
    const begin = ((y + Math.max(0, -top)) * size + Math.max(0, -left)) * 3;
    pixels.set(found.subarray(y * width, (y + 1) * width), begin);
  }
  return pixels;
}

/** RGB values of the columns and rows of `target` that are wanted, each from one place to before another. */
function resample(picture, target, filter, columns = [0, target.width], lines = [0, target.height]) {
  const across = weightsOf(picture.width, target.width, filter).slice(...columns);
  const down = weightsOf(picture.height, target.height, filter).slice(...lines);
  const start = Math.min(...down.map((one) => one.first));
  const end = Math.max(...down.map((one) => one.first + one.weights.length));
  const width = across.length * 3;
  const narrow = new Uint8Array((end - start) * width);
  const step = Math.max(1, Math.floor(STRIP_PIXELS / picture.width));
  for (let y = start; y < end; y += step) {
    const count = Math.min(step, end - y);
    const strip = { ...picture, values: picture.rows(y, count), height: count };
    resampleRows(strip, across, narrow.subarray((y - start) * width));
  }
  const pixels = new Uint8Array(down.length * width);
  down.forEach(({ first, weights }, row) => {
    for (let x = 0; x < width; x += 1) {
      let sum = HALF;
      for (let i = 0; i < weights.length; i += 1) sum += narrow[(first - start + i) * width + x] * weights[i];
      pixels[row * width + x] = rounded(sum);
    }
  });
  return pixels;
}

/** The pass along the rows. */
function resampleRows({ values, width, height, channels }, across, out) {
  let at = 0;
  for (let y = 0; y < height; y += 1) {
    for (const { first, weights } of across) {
      let [red, green, blue] = [HALF, HALF, HALF];
      let from = (y * width + first) * channels;
      for (let i = 0; i < weights.length; i += 1, from += channels) {
        red += values[from] * weights[i];
        green += values[from + 1] * weights[i];
        blue += values[from + 2] * weights[i];
      }
      out[at] = rounded(red);
      out[at + 1] = rounded(green);
      out[at + 2] = rounded(blue);
      at += 3;
    }
  }
}

/** A file as an upright bitmap; colour profiles are ignored, as farshot does. */
export function decode(file) {
  return createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
}

/** The pixels of a bitmap for the model, transparency over white. */
export function pixelsOf(bitmap, images) {
  const plan = geometry(bitmap.width, bitmap.height, images);
  const canvas = document.createElement('canvas');
  canvas.width = plan.part.width;
  canvas.height = Math.max(1, Math.min(plan.part.height, Math.floor(STRIP_PIXELS / plan.part.width)));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  const rows = (top, count) => {
    context.fillStyle = 'white';
    context.fillRect(0, 0, canvas.width, count);
    context.drawImage(bitmap, -plan.part.left, -plan.part.top - top);
    return context.getImageData(0, 0, canvas.width, count).data;
  };
  return resized(rows, plan, images);
}
