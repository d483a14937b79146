// Marks as small pictures of coverage, put straight into pixels: a hundred thousand of them take milliseconds.

const FINE = 4;

const INSIDE = {
  dot: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85,
  plus: (x, y) => Math.min(Math.abs(x), Math.abs(y)) <= 0.28 && Math.max(Math.abs(x), Math.abs(y)) <= 1.1,
  triangle: (x, y) => y <= 0.85 && y >= -1.1 && Math.abs(x) <= (y + 1.1) * 0.56,
  ring: (x, y) => Math.abs(Math.hypot(x, y) - 0.8) <= 0.27,
  diamond: (x, y) => Math.abs(x) + Math.abs(y) <= 1.2,
  cross: (x, y) => INSIDE.plus((x + y) * Math.SQRT1_2, (x - y) * Math.SQRT1_2),
};

/**
 * How much of each pixel a mark covers.
 * @param {string} shape
 * @param {number} radius  in pixels
 * @returns {{dx: Int16Array, dy: Int16Array, cover: Uint8Array}}  of the pixels that it touches
 */
export function stamp(shape, radius) {
  const size = Math.ceil(radius * 1.25);
  const [dx, dy, cover] = [[], [], []];
  for (let y = -size; y <= size; y++) {
    for (let x = -size; x <= size; x++) {
      let hits = 0;
      for (let i = 0; i < FINE * FINE; i++) {
        const within = (step) => (step + 0.5) / FINE - 0.5;
        hits += INSIDE[shape]((x + within(i % FINE)) / radius, (y + within(Math.floor(i / FINE))) / radius);
      }
      if (!hits) continue;
      dx.push(x);
      dy.push(y);
      cover.push(Math.round((hits / FINE ** 2) * 255));
    }
  }
  return { dx: Int16Array.from(dx), dy: Int16Array.from(dy), cover: Uint8Array.from(cover) };
}

/** A colour as canvases keep it: alpha, blue, green, red. */
export function packed(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Pixels that marks are put into, and from there onto a canvas. */
export class Pixels {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.image = new ImageData(width, height);
    this.values = new Uint32Array(this.image.data.buffer);
  }

  clear() {
    this.values.fill(0xffffffff);
  }

  /** Put a mark in a packed colour at a pixel. */
  put(mark, colour, left, top) {
    const { dx, dy, cover } = mark;
    const { width, height, values } = this;
    for (let i = 0; i < cover.length; i++) {
      const x = left + dx[i];
      const y = top + dy[i];
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const at = y * width + x;
      values[at] = cover[i] === 255 ? colour : mixed(values[at], colour, cover[i]);
    }
  }
}

function mixed(below, above, cover) {
  const rest = 255 - cover;
  const channel = (shift) => (((below >>> shift) & 255) * rest + ((above >>> shift) & 255) * cover + 127) / 255;
  return (0xff000000 | (channel(16) << 16) | (channel(8) << 8) | channel(0)) >>> 0;
}

/** A small canvas with one mark, to stand beside a name. */
export function swatch(style) {
  const scale = Math.ceil(devicePixelRatio);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 20 * scale;
  canvas.className = "mark";
  canvas.setAttribute("aria-hidden", "true");
  canvas.getContext("2d").putImageData(drawnMark(style, 20 * scale, 6 * scale), 0, 0);
  return canvas;
}

/** One mark in the middle of a square of pixels. */
export function drawnMark(style, side, radius) {
  const pixels = new Pixels(side, side);
  pixels.clear();
  pixels.put(stamp(style.shape, radius), packed(style.colour), side / 2, side / 2);
  return pixels.image;
}
