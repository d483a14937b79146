// The map with its legend and controls.

import { byLabel, byNumber, rampColour } from "./colouring.js";
import { byId, count, make } from "./dom.js";
import { gestures } from "./gestures.js";
import { Painter } from "./map.js";
import { swatch } from "./stamps.js";

const HIGHEST = 0.995;
/** Share of the cells within the ends of a protein's colours: a few that are far out would make all others alike. */

/** The section “Map”. */
export class MapPart {
  constructor(cells, behind, info, groups, counts, { attempt, chosen, only, signal }) {
    Object.assign(this, { cells, info, groups, counts, attempt, only });
    this.canvas = byId("map");
    this.select = byId("colour");
    this.painter = new Painter(cells.columns.x, cells.columns.y, behind);
    this.frames = [];
    this.labelled = byLabel(cells.columns.label, groups);
    this.signs = this.#signs();
    const { proteins } = cells.about;
    this.select.replaceChildren(
      make("option", { value: "label" }, "cell type"), make("option", { value: "confidence" }, "confidence"),
      make("option", { value: "novelty" }, "novelty"),
      ...(proteins.length ? [make("optgroup", { label: "Proteins" },
        proteins.map((name, place) => make("option", { value: `protein ${place}` }, name)))] : []));
    this.select.addEventListener("change", () => this.colourBy(this.select.value), { signal });
    const { view } = this.painter;
    const change = (work) => () => {
      work();
      this.draw();
    };
    byId("closer").addEventListener("click", change(() => view.zoomBy(1.5)), { signal });
    byId("farther").addEventListener("click", change(() => view.zoomBy(1 / 1.5)), { signal });
    byId("whole").addEventListener("click", change(() => view.reset()), { signal });
    const at = (place) => (place === null ? -1 : this.painter.nearest(...place, this.canvas.clientWidth));
    const stop = gestures(this.canvas, view, {
      changed: () => this.draw(),
      over: (place) => this.#tell(at(place), place),
      clicked: (place) => at(place) >= 0 && chosen(at(place)),
    });
    signal.addEventListener("abort", stop);
    const resized = new ResizeObserver(() => this.draw());
    resized.observe(this.canvas);
    signal.addEventListener("abort", () => resized.disconnect());
    this.colourBy("label");
  }

  /** Colour by `label`, `confidence`, `novelty`, or `protein` and a place. */
  async colourBy(what) {
    const { columns, about } = this.cells;
    this.select.value = what;
    if (what === "label") return this.#apply(what, this.labelled, null);
    if (!what.startsWith("protein")) return this.#apply(what, byNumber(columns[what], 0, 1), [0, 1]);
    const place = Number(what.split(" ")[1]);
    const levels = await this.attempt(() => this.cells.protein(place));
    // Another may have been chosen meanwhile.
    if (levels === null || this.select.value !== what) return null;
    const scaled = levels.map((level) => Math.log1p(level));
    const sorted = scaled.filter((level) => !Number.isNaN(level)).sort();
    const high = sorted[Math.floor((sorted.length - 1) * HIGHEST)] ?? 0;
    const low = sorted[0] ?? 0;
    return this.#apply(about.proteins[place], byNumber(scaled, low, high), [Math.expm1(low), Math.expm1(high)], levels);
  }

  #apply(title, colouring, ends, values = null) {
    const painter = this.painter;
    Object.assign(this, { title, ends, values });
    painter.colouring = colouring;
    painter.signs = ends === null ? this.signs : [];
    byId("legend").replaceChildren(ends === null ? this.#keys() : this.#ramp(title, ends));
    const name = ends === null ? "cell type" : title;
    this.canvas.setAttribute("aria-label", `Map of ${count(this.cells.length)} cells of the query, coloured by ${name}`);
    this.draw();
  }

  /** Draw at the next chance, once. */
  draw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      const ratio = Math.min(devicePixelRatio, 2);
      const side = Math.round(this.canvas.clientWidth * ratio);
      if (!side) return;
      if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
      performance.mark("map-begins");
      this.painter.paint(this.canvas.getContext("2d"), side, ratio);
      performance.measure("map", "map-begins");
      performance.clearMarks("map-begins");
      performance.clearMeasures("map");
    });
  }

  choose(cell) {
    this.painter.chosen = cell;
    byId("map-text").textContent = this.#described(cell);
    this.draw();
  }

  /** Show cells of one label alone; null for all. */
  showOnly(code) {
    const { label } = this.cells.columns;
    this.painter.only = code === null ? null : Uint8Array.from(label, (one) => Number(one === code));
    for (const button of byId("legend").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.value) === code));
    }
    this.shown = code;
    this.draw();
  }

  #described(cell) {
    const { columns } = this.cells;
    if (columns.label[cell] < 0) return `${this.cells.name(cell)}: not mapped`;
    const value = this.values === null ? "" : `, ${this.title} ${this.values[cell].toPrecision(3)}`;
    return `${this.cells.name(cell)}: ${this.cells.label(cell)}, confidence ${columns.confidence[cell].toFixed(2)}, novelty ` +
      `${columns.novelty[cell].toFixed(2)}${value}`;
  }

  #tell(cell, place) {
    const tip = byId("tip");
    tip.hidden = cell < 0;
    if (cell < 0) return;
    tip.textContent = this.#described(cell);
    const width = this.canvas.clientWidth;
    tip.style.left = `${Math.min(place[0] * width + 14, Math.max(0, width - tip.offsetWidth))}px`;
    tip.style.top = `${place[1] * width + 16}px`;
  }

  #keys() {
    return make("div", {}, make("p", { class: "quiet" }, "Choose a type to see it alone."),
      make("ul", { class: "keys" }, this.groups.map(({ code, sign, style }) => make("li", {},
        make("button", {
          type: "button", value: code, "aria-pressed": String(this.shown === code),
          onclick: () => {
            const next = this.shown === code ? null : code;
            this.showOnly(next);
            this.only(next);
          },
        }, swatch(style), make("b", {}, sign), make("span", { class: "name" }, this.cells.labels[code]),
        make("span", { class: "quiet" }, count(this.counts[code])))))));
  }

  #ramp(title, [low, high]) {
    const canvas = make("canvas", { class: "ramp", width: 256, height: 1, "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    for (let step = 0; step < 256; step++) {
      context.fillStyle = rampColour(step / 255);
      context.fillRect(step, 0, 1, 1);
    }
    const number = (value) => String(Number(value.toPrecision(3)));
    return make("div", {}, make("p", {}, make("b", {}, title)), canvas,
      make("div", { class: "ends" }, make("span", {}, number(low)), make("span", {}, `${number(high)}${this.values ? " or more" : ""}`)));
  }

  /** Where each label's sign stands: at the cell nearest to the middle of its cells. */
  #signs() {
    const { x, y } = this.cells.columns;
    const { order } = this.labelled;
    let start = 0;
    return this.groups.map(({ code, sign }) => {
      const own = order.subarray(start, (start += this.counts[code]));
      const middle = [x, y].map((places) => Float32Array.from(own, (cell) => places[cell]).sort()[own.length >> 1]);
      let [best, distance] = [own[0], Infinity];
      for (const cell of own) {
        const found = Math.abs(x[cell] - middle[0]) + Math.abs(y[cell] - middle[1]);
        if (found < distance) [best, distance] = [cell, found];
      }
      // A sign must not hide the only cells that it stands for.
      return { sign, x: x[best], y: y[best], beside: own.length < 6 };
    });
  }
}
