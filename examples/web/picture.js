// A picture as the model wants it: what `decode` of zoo/vision.py does, in the browser.
//
// A canvas would resize too, but every browser in its own way; training and `graft predict` stretch with a triangle
// filter as wide as the scale, first across, then down, rounding to bytes in between. The same here gives the same scores.

/** @returns Float32Array of size * size * 3, RGB, 0 to 255 */
export async function decode(source, size) {
  // No colour management: Pillow does none either. The orientation of the EXIF data is applied.
  const bitmap =
    source instanceof Blob
      ? await createImageBitmap(source, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
      : source;
  const width = bitmap.videoWidth || bitmap.width;
  const height = bitmap.videoHeight || bitmap.height;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind transparent pixels
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    pixels[to] = data[from];
    pixels[to + 1] = data[from + 1];
    pixels[to + 2] = data[from + 2];
  }
  return Float32Array.from(resize(pixels, width, height, size));
}

/** Stretch `pixels` (height, width, 3) to (size, size, 3), bytes in and out. */
export function resize(pixels, width, height, size) {
  const across = new Uint8Array(height * size * 3);
  weights(width, size).forEach(({ first, shares }, x) => {
    for (let y = 0; y < height; y++) {
      mix(pixels, (y * width + first) * 3, 3, shares, across, (y * size + x) * 3);
    }
  });
  const result = new Uint8Array(size * size * 3);
  weights(height, size).forEach(({ first, shares }, y) => {
    for (let x = 0; x < size; x++) {
      mix(across, (first * size + x) * 3, size * 3, shares, result, (y * size + x) * 3);
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
