// Cells on the reference's map: drawn into pixels, moved and enlarged by pointer, fingers or keys.

import { BACKGROUND, INK } from "./palette.js";
import { packed, Pixels, stamp } from "./stamps.js";

const MARGIN = 0.04;
const REACH = 10;
const MOST_ZOOM = 200;
const GRID = 96;
const DIMMED = packed("#e3e5e8");

/** Where places on the map are on a canvas. */
export class View {
  constructor(places) {
    const bounds = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [xs, ys] of places) {
      for (let i = 0; i < xs.length; i++) {
        if (Number.isNaN(xs[i])) continue;
        bounds[0] = Math.min(bounds[0], xs[i]);
        bounds[1] = Math.min(bounds[1], ys[i]);
        bounds[2] = Math.max(bounds[2], xs[i]);
        bounds[3] = Math.max(bounds[3], ys[i]);
      }
    }
    const [left, bottom, right, top] = Number.isFinite(bounds[0]) ? bounds : [0, 0, 1, 1];
    // As wide as it is high, so that distances mean the same in all directions.
    this.span = Math.max(right - left, top - bottom, 1e-6) * (1 + 2 * MARGIN);
    this.home = [(left + right) / 2, (bottom + top) / 2];
    this.reset();
  }

  reset() {
    this.zoom = 1;
    this.centre = [...this.home];
  }

  /** Pixels for one unit of the map, on a canvas so wide. */
  scale(width) {
    return (width / this.span) * this.zoom;
  }

  /** Enlarge around a point of the canvas, given in shares of its width. */
  zoomBy(factor, x = 0.5, y = 0.5) {
    const zoom = Math.min(Math.max(this.zoom * factor, 1), MOST_ZOOM);
    const moved = this.span / this.zoom - this.span / zoom;
    this.centre[0] += (x - 0.5) * moved;
    this.centre[1] -= (y - 0.5) * moved;
    this.zoom = zoom;
    if (zoom === 1) this.reset();
  }

  /** Move by shares of the canvas's width; the middle of the map stays within reach. */
  moveBy(x, y) {
    const step = this.span / this.zoom;
    const bound = (value, home) => Math.min(Math.max(value, home - this.span / 2), home + this.span / 2);
    this.centre = [bound(this.centre[0] - x * step, this.home[0]), bound(this.centre[1] + y * step, this.home[1])];
  }
}

/** Points and their colouring, painted for any size of canvas. */
export class Painter {
  /**
   * @param {Float32Array} x, y  of the cells; NaN for those without a place
   * @param {Float32Array} behind  x and y of the reference's cells in turn
   */
  constructor(x, y, behind) {
    Object.assign(this, { x, y });
    this.behindX = behind.filter((_, i) => i % 2 === 0);
    this.behindY = behind.filter((_, i) => i % 2 === 1);
    this.view = new View([[x, y], [this.behindX, this.behindY]]);
    this.only = null;
    this.chosen = -1;
  }

  /** Paint a square of so many pixels; `ratio` of them make one of the page. */
  paint(context, side, ratio) {
    if (this.pixels?.width !== side) this.pixels = new Pixels(side, side);
    const { pixels, view, x, y } = this;
    const { order, styleOf, styles } = this.colouring;
    pixels.clear();
    const scale = view.scale(side);
    const [left, top] = [side / 2 - view.centre[0] * scale, side / 2 + view.centre[1] * scale];
    const larger = view.zoom ** 0.35;
    const radius = (Math.min(Math.max(260 / Math.sqrt(x.length || 1), 4), 14) / 2000) * side * larger;
    const smallest = 1.1 * ratio;
    const grey = stamp("dot", Math.max(0.0028 * side * larger, smallest));
    const behind = packed(BACKGROUND);
    for (let i = 0; i < this.behindX.length; i++) {
      pixels.put(grey, behind, Math.round(left + this.behindX[i] * scale), Math.round(top - this.behindY[i] * scale));
    }
    const marks = marksOf(styles, radius, smallest);
    const { only } = this;
    if (only !== null) {
      for (const cell of order) {
        if (only[cell]) continue;
        pixels.put(marks[styleOf(cell)], DIMMED, Math.round(left + x[cell] * scale), Math.round(top - y[cell] * scale));
      }
    }
    for (let i = 0; i < order.length; i++) {
      const cell = order[i];
      if (only !== null && !only[cell]) continue;
      const style = styleOf(cell);
      pixels.put(marks[style], styles[style].colour, Math.round(left + x[cell] * scale), Math.round(top - y[cell] * scale));
    }
    context.putImageData(pixels.image, 0, 0);
    this.#write(context, side, scale, left, top, ratio);
  }

  #write(context, side, scale, left, top, ratio) {
    const size = Math.max(13 * ratio, side * 0.022);
    context.font = `bold ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const signs = (this.signs ?? []).map(({ sign, x, y, beside }) => ({
      sign, place: [left + x * scale, top - y * scale - (beside ? size : 0)],
    }));
    const seen = signs.filter(({ place }) => place.every((at) => at > size / 2 && at < side - size / 2));
    moveApart(seen.map(({ place }) => place), size * 1.2);
    for (const { sign, place } of seen) {
      context.strokeStyle = "#fff";
      context.lineWidth = size / 3.5;
      context.strokeText(sign, ...place);
      context.fillStyle = INK;
      context.fillText(sign, ...place);
    }
    if (this.chosen >= 0 && !Number.isNaN(this.x[this.chosen])) {
      const place = [left + this.x[this.chosen] * scale, top - this.y[this.chosen] * scale];
      for (const [colour, width] of [["#fff", 6], [INK, 2.5]]) {
        context.beginPath();
        context.arc(...place, 9 * ratio, 0, 2 * Math.PI);
        context.strokeStyle = colour;
        context.lineWidth = width * ratio;
        context.stroke();
      }
    }
  }

  /** The cell nearest to a point of the canvas, in shares of its width; -1 when none is near. */
  nearest(x, y, width) {
    this.grid ??= gridOf(this.x, this.y, this.view);
    const { view } = this;
    const place = [view.centre[0] + ((x - 0.5) * view.span) / view.zoom, view.centre[1] - ((y - 0.5) * view.span) / view.zoom];
    return this.grid.nearest(place, REACH / view.scale(width), this.only);
  }
}

/** Move places until none is nearer to another than `least`, or for a while. */
function moveApart(places, least) {
  for (let round = 0; round < 30; round++) {
    let moved = false;
    places.forEach((one, i) => places.slice(0, i).forEach((other) => {
      // Those on the same spot go different ways.
      const [x, y] = [one[0] - other[0] || Math.cos(i), one[1] - other[1] || Math.sin(i)];
      const apart = Math.hypot(x, y);
      if (apart >= least) return;
      const push = (least - apart) / 2 / apart;
      one[0] += x * push;
      one[1] += y * push;
      other[0] -= x * push;
      other[1] -= y * push;
      moved = true;
    }));
    if (!moved) return;
  }
}

function marksOf(styles, radius, smallest) {
  const made = new Map();
  return styles.map(({ shape }) => {
    // Other shapes than dots have to be larger to be told apart.
    if (!made.has(shape)) made.set(shape, stamp(shape, Math.max(shape === "dot" ? radius : radius * 1.5, smallest)));
    return made.get(shape);
  });
}

/** Cells by where they are, so that a pointer need not ask all of them. */
function gridOf(xs, ys, view) {
  const [left, bottom] = view.home.map((middle) => middle - view.span / 2);
  const bin = (value, low) => Math.min(Math.max(Math.floor(((value - low) / view.span) * GRID), 0), GRID - 1);
  const starts = new Uint32Array(GRID * GRID + 1);
  const bins = new Int32Array(xs.length).fill(-1);
  for (let cell = 0; cell < xs.length; cell++) {
    if (Number.isNaN(xs[cell])) continue;
    bins[cell] = bin(ys[cell], bottom) * GRID + bin(xs[cell], left);
    starts[bins[cell] + 1] += 1;
  }
  for (let i = 0; i < GRID * GRID; i++) starts[i + 1] += starts[i];
  const cells = new Uint32Array(starts[GRID * GRID]);
  const next = starts.slice();
  bins.forEach((at, cell) => {
    if (at >= 0) cells[next[at]++] = cell;
  });
  return {
    nearest([x, y], reach, only) {
      let [found, best] = [-1, reach * reach];
      for (let row = bin(y - reach, bottom); row <= bin(y + reach, bottom); row++) {
        for (let column = bin(x - reach, left); column <= bin(x + reach, left); column++) {
          const at = row * GRID + column;
          for (let i = starts[at]; i < starts[at + 1]; i++) {
            const cell = cells[i];
            const distance = (xs[cell] - x) ** 2 + (ys[cell] - y) ** 2;
            if (distance < best && (only === null || only[cell])) [found, best] = [cell, distance];
          }
        }
      }
      return found;
    },
  };
}
