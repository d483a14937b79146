// What cells were mapped to, in columns of numbers; the format is that of totalanvi/serving/endpoint/files/columns.py.

import { ask } from "./api.js";

const MAGIC = "TVCELLS1";
const TYPES = { int16: Int16Array, int32: Int32Array, float32: Float32Array, uint32: Uint32Array, uint8: Uint8Array };
const decoder = new TextDecoder();

/** All cells of a mapped file: `columns` by name, and what stands beside them in `about`. */
export class Cells {
  #names = [];

  /**
   * @param {string} url  the upload's
   * @param {ArrayBuffer} buffer  its columns
   */
  constructor(url, buffer) {
    if (decoder.decode(new Uint8Array(buffer, 0, 8)) !== MAGIC) throw new Error("These are no cells of this format.");
    const length = Number(new DataView(buffer).getBigUint64(8, true));
    this.url = url;
    this.about = JSON.parse(decoder.decode(new Uint8Array(buffer, 16, length)));
    this.length = this.about.cells;
    this.columns = {};
    for (const { name, type, offset, bytes } of this.about.columns) {
      const Column = TYPES[type];
      this.columns[name] = new Column(buffer, 16 + length + offset, bytes / Column.BYTES_PER_ELEMENT);
    }
  }

  static async fetch(url, signal) {
    return new Cells(url, await (await ask(`${url}/cells`, { signal })).arrayBuffer());
  }

  /** What labels are called; behind them, what a cell is called that is too novel for any. */
  get labels() {
    return this.about.names.label;
  }

  name(cell) {
    const { id, id_end } = this.columns;
    this.#names[cell] ??= decoder.decode(id.subarray(cell ? id_end[cell - 1] : 0, id_end[cell]));
    return this.#names[cell];
  }

  label(cell) {
    return this.labels[this.columns.label[cell]] ?? "not mapped";
  }

  /** All labels that fit a cell. */
  set(cell) {
    const code = this.columns.set[cell];
    if (code < 0) return "";
    // A label that has the sign itself would look like two.
    const joined = this.labels.some((label) => label.includes("|"));
    return (joined ? this.about.sets[code] : this.about.sets[code].replaceAll("|", ", ")) || "none";
  }

  /** Imputed levels of a protein, one for each cell. */
  async protein(place) {
    const size = this.length * 4;
    const response = await ask(`${this.url}/proteins`, { range: [place * size, (place + 1) * size - 1] });
    return new Float32Array(await response.arrayBuffer());
  }

  /** Cells of each label, and `unknown` last. */
  get labelCounts() {
    const counts = new Array(this.labels.length).fill(0);
    for (const code of this.columns.label) if (code >= 0) counts[code] += 1;
    return counts;
  }
}
