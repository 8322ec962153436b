// A picture as the model wants it: what `decode` of zoo/vision.py does, in the browser.
//
// A canvas would resize too, but every browser in its own way; training and `graft predict` resize with a triangle
// filter as wide as the scale, first across, then down, rounding to bytes in between. The same here gives the same scores.

const GREY = 128; // around a padded picture

/**
 * @param shape { height, width, channels } of the result: 3 channels are RGB, 1 is luminance
 * @param fit what becomes of a picture of other proportions: "stretch", "crop" to its centre, or "pad" with grey
 * @returns Float32Array of height * width * channels, 0 to 255
 */
export async function decode(source, shape, fit = "stretch") {
  // No colour management: Pillow does none either. The orientation of the EXIF data is applied.
  const bitmap =
    source instanceof Blob
      ? await createImageBitmap(source, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
      : source;
  const whole = { width: bitmap.videoWidth || bitmap.width, height: bitmap.videoHeight || bitmap.height };
  const { width, height } = fit === "crop" ? centre(whole, shape) : whole;
  const [left, top] = [Math.floor((whole.width - width) / 2), Math.floor((whole.height - height) / 2)];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind transparent pixels
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, -left, -top);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = shape.channels === 1 ? luminance(data) : colours(data);
  const picture = { pixels, width, height, channels: shape.channels };
  return Float32Array.from(fit === "pad" ? pad(picture, shape) : resize(picture, shape.width, shape.height));
}

/** RGBA bytes -> RGB bytes. */
function colours(data) {
  const pixels = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  return pixels;
}

/** RGBA bytes -> how bright they are, as Pillow counts it. */
function luminance(data) {
  const pixels = new Uint8Array(data.length / 4);
  for (let from = 0, to = 0; from < data.length; from += 4, to++) {
    pixels[to] = (19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 32768) >> 16;
  }
  return pixels;
}

/** length * part / whole, halves rounded up, at least 1. */
function inProportion(length, part, whole) {
  return Math.max(1, Math.floor((2 * length * part + whole) / (2 * whole)));
}

/** Width and height of the largest part of a picture that has the proportions of `shape`. */
function centre({ width, height }, shape) {
  return width * shape.height >= height * shape.width
    ? { width: inProportion(height, shape.width, shape.height), height }
    : { width, height: inProportion(width, shape.height, shape.width) };
}

/** Scale a picture until its first side reaches that of `shape`, and lay it on the middle of grey. */
export function pad(picture, shape) {
  const { width, height, channels } = picture;
  const [wide, high] =
    width * shape.height >= height * shape.width
      ? [shape.width, inProportion(height, shape.width, width)]
      : [inProportion(width, shape.height, height), shape.height];
  const scaled = resize(picture, wide, high);
  const left = Math.floor((shape.width - wide) / 2);
  const top = Math.floor((shape.height - high) / 2);
  const result = new Uint8Array(shape.height * shape.width * channels).fill(GREY);
  for (let y = 0; y < high; y++) {
    const row = scaled.subarray(y * wide * channels, (y + 1) * wide * channels);
    result.set(row, ((top + y) * shape.width + left) * channels);
  }
  return result;
}

/** Stretch a picture, pixels (height, width, channels), to (high, wide, channels), bytes in and out. */
export function resize({ pixels, width, height, channels }, wide, high) {
  const across = new Uint8Array(height * wide * channels);
  weights(width, wide).forEach(({ first, shares }, x) => {
    for (let y = 0; y < height; y++) {
      const start = (y * width + first) * channels;
      mix({ pixels, start, step: channels, channels }, shares, across, (y * wide + x) * channels);
    }
  });
  const result = new Uint8Array(high * wide * channels);
  weights(height, high).forEach(({ first, shares }, y) => {
    for (let x = 0; x < wide; x++) {
      const start = (first * wide + x) * channels;
      mix({ pixels: across, start, step: wide * channels, channels }, shares, result, (y * wide + x) * channels);
    }
  });
  return result;
}

const ONE = 2 ** 22; // shares are whole numbers of this, so that halves are rounded as Pillow rounds them

/** For each of `to` places: which of `from` places it takes, and how much of each. */
function weights(from, to) {
  const scale = from / to;
  const reach = Math.max(1, scale); // a wider triangle when the picture gets smaller, so that no pixel is passed over
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(from, Math.floor(centre + reach + 0.5));
    const shares = [];
    for (let i = first; i < end; i++) {
      shares.push(Math.max(0, 1 - Math.abs((i + 0.5 - centre) / reach)));
    }
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, shares: shares.map((share) => Math.round((share / sum) * ONE)) };
  });
}

function mix({ pixels, start, step, channels }, shares, target, place) {
  for (let channel = 0; channel < channels; channel++) {
    let sum = ONE / 2;
    for (let i = 0; i < shares.length; i++) {
      sum += pixels[start + channel + i * step] * shares[i];
    }
    target[place + channel] = Math.min(255, Math.floor(sum / ONE));
  }
}
