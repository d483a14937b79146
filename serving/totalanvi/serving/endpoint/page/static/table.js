// A table of any number of cells, of which only the rows in sight are in the document.

import { make } from "./dom.js";

const ROW = 30;
const TALLEST = 8e6;
/** Pixels; browsers have no elements much taller than this. */

/** The table; `columns` have a name, a text for each cell, what to sort by, and a class. */
export class CellTable {
  #sort = { column: -1, descending: false };
  #first = -1;

  /**
   * @param {HTMLElement} box  scrolls
   * @param {number} length  cells
   * @param {{name: string, text: function, values: function, className: string}[]} columns  `values` returns what can be
   *   compared for each cell; the first column is a button that chooses its cell
   * @param {function} chosen  is told which
   */
  constructor(box, length, columns, chosen) {
    Object.assign(this, { box, columns, chosen, length });
    this.cell = -1;
    this.body = make("tbody");
    this.heads = columns.map((column, place) =>
      make("th", { scope: "col", class: column.className },
        make("button", { type: "button", onclick: () => this.sortBy(place) }, column.name)));
    this.table = make("table", {}, make("thead", {}, make("tr", { "aria-rowindex": 1 }, this.heads)), this.body);
    this.sizer = make("div", { class: "length" }, this.table);
    box.replaceChildren(this.sizer);
    box.onscroll = () => this.draw();
    this.order = Uint32Array.from({ length }, (_, cell) => cell);
    this.show(null);
  }

  /** Show the cells of which `wanted` says so; null for all. */
  show(wanted) {
    this.wanted = wanted;
    this.rows = wanted === null ? this.order : this.order.filter(wanted);
    this.box.scrollTop = 0;
    this.#measure();
  }

  sortBy(place) {
    const descending = this.#sort.column === place && !this.#sort.descending;
    this.#sort = { column: place, descending };
    const values = this.columns[place].values();
    const sign = descending ? -1 : 1;
    // What is not a number is last, whichever way.
    const missing = (value) => value !== value;
    this.order.sort((one, other) => {
      const [a, b] = [values[one], values[other]];
      if (missing(a) || missing(b)) return missing(a) - missing(b) || one - other;
      return a < b ? -sign : a > b ? sign : one - other;
    });
    this.heads.forEach((head, at) => {
      if (at === place) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      head.firstChild.textContent = this.columns[at].name + (at === place ? (descending ? " ▾" : " ▴") : "");
    });
    this.show(this.wanted);
  }

  /** Mark a cell, and bring it into sight if it is listed. */
  mark(cell) {
    this.cell = cell;
    const row = this.rows.indexOf(cell);
    if (row >= 0 && (row < this.#first || row >= this.#first + this.visible - 1)) this.#scrollTo(row);
    this.#first = -1;
    this.draw();
  }

  /** Measure anew, after the box has appeared or changed its height. */
  #measure() {
    this.visible = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    this.height = Math.min((this.rows.length + 1) * ROW, TALLEST);
    this.sizer.style.height = `${this.height}px`;
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    this.#first = -1;
    this.draw();
  }

  get #path() {
    return Math.max(1, this.height - this.box.clientHeight);
  }

  get #last() {
    return Math.max(0, this.rows.length - this.visible);
  }

  #scrollTo(row) {
    this.box.scrollTop = (Math.max(0, row - Math.floor(this.visible / 2)) / Math.max(1, this.#last)) * this.#path;
  }

  draw() {
    if (Math.floor(this.box.clientHeight / ROW) - 1 !== this.visible && this.box.clientHeight >= 2 * ROW) {
      this.#measure();
      return;
    }
    const first = Math.min(this.#last, Math.round((this.box.scrollTop / this.#path) * this.#last));
    if (first === this.#first) return;
    this.#first = first;
    const focused = this.body.contains(document.activeElement);
    const rows = [];
    for (let row = first; row < Math.min(first + this.visible, this.rows.length); row++) rows.push(this.#row(row));
    this.body.replaceChildren(...rows);
    // A button that has left the document takes the keyboard's place with it.
    if (focused) this.box.focus({ preventScroll: true });
  }

  #row(row) {
    const cell = this.rows[row];
    const texts = this.columns.map((column) => column.text(cell));
    return make("tr", { "aria-rowindex": row + 2, class: cell === this.cell ? "chosen" : null },
      this.columns.map(({ className }, place) => place === 0
        ? make("th", { scope: "row", class: className, title: texts[0] },
          make("button", { type: "button", "aria-pressed": String(cell === this.cell), onclick: () => this.chosen(cell) }, texts[0]))
        : make("td", { class: className, title: texts[place] }, texts[place])));
  }
}
