// A picture as the model wants it: what `decode` of zoo/vision.py does, in the browser.
//
// A canvas would resize too, but every browser in its own way; training and `graft predict` resize with a triangle
// filter as wide as the scale, first across, then down, rounding to bytes in between. The same here gives the same scores.

const GREY = 128; // around a padded picture

/**
 * @param fit what becomes of a picture that is no square: "stretch", "crop" to its centre, or "pad" with grey
 * @returns Float32Array of size * size * 3, RGB, 0 to 255
 */
export async function decode(source, size, fit = "stretch") {
  // No colour management: Pillow does none either. The orientation of the EXIF data is applied.
  const bitmap =
    source instanceof Blob
      ? await createImageBitmap(source, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
      : source;
  const whole = [bitmap.videoWidth || bitmap.width, bitmap.videoHeight || bitmap.height];
  const shorter = Math.min(...whole);
  const [width, height] = fit === "crop" ? [shorter, shorter] : whole;
  const [left, top] = [Math.floor((whole[0] - width) / 2), Math.floor((whole[1] - height) / 2)];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind transparent pixels
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, -left, -top);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  const fitted = fit === "pad" ? pad(pixels, width, height, size) : resize(pixels, width, height, size, size);
  return Float32Array.from(fitted);
}

/** Scale `pixels` (height, width, 3) until the longer side is `size`, and lay them on the middle of a grey square. */
export function pad(pixels, width, height, size) {
  const longer = Math.max(width, height);
  const [wide, high] = [width, height].map((side) => Math.max(1, Math.floor((2 * side * size + longer) / (2 * longer))));
  const scaled = resize(pixels, width, height, wide, high);
  const left = Math.floor((size - wide) / 2);
  const top = Math.floor((size - high) / 2);
  const result = new Uint8Array(size * size * 3).fill(GREY);
  for (let y = 0; y < high; y++) {
    result.set(scaled.subarray(y * wide * 3, (y + 1) * wide * 3), ((top + y) * size + left) * 3);
  }
  return result;
}

/** Stretch `pixels` (height, width, 3) to (high, wide, 3), bytes in and out. */
export function resize(pixels, width, height, wide, high) {
  const across = new Uint8Array(height * wide * 3);
  weights(width, wide).forEach(({ first, shares }, x) => {
    for (let y = 0; y < height; y++) {
      mix(pixels, (y * width + first) * 3, 3, shares, across, (y * wide + x) * 3);
    }
  });
  const result = new Uint8Array(high * wide * 3);
  weights(height, high).forEach(({ first, shares }, y) => {
    for (let x = 0; x < wide; x++) {
      mix(across, (first * wide + x) * 3, wide * 3, shares, result, (y * wide + x) * 3);
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

function mix(source, start, step, shares, target, place) {
  for (let channel = 0; channel < 3; channel++) {
    let sum = ONE / 2;
    for (let i = 0; i < shares.length; i++) {
      sum += source[start + channel + i * step] * shares[i];
    }
    target[place + channel] = Math.min(255, Math.floor(sum / ONE));
  }
}
