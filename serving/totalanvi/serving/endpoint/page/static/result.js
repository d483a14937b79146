// What became of the cells, to look at and to take away.

import { ask } from "./api.js";
import { composition, histogram } from "./charts.js";
import { ranked } from "./colouring.js";
import { byId, count, make, share, several } from "./dom.js";
import { saveCharts } from "./figures.js";
import { saveMap } from "./picture.js";
import { MapPart } from "./map_part.js";
import { warnings } from "./preview.js";
import { proteinTable } from "./proteins.js";
import { swatch } from "./stamps.js";
import { CellTable } from "./table.js";

const decimals = (value, digits = 3) => (Number.isNaN(value) ? "" : value.toFixed(digits));

/** Everything below “Result”. */
export class Result {
  /**
   * @param {import("./cells.js").Cells} cells
   * @param {Float32Array} behind  places of the reference's cells
   * @param {object} info  of the reference
   * @param {string} file  what the file was called
   * @param {function} attempt  does something, and tells what goes wrong
   */
  constructor(cells, behind, info, file, attempt) {
    Object.assign(this, { cells, info, attempt });
    this.stem = file.replace(/\.(h5ad|h5mu|h5)$/i, "") || "cells";
    this.counts = cells.labelCounts;
    this.groups = ranked(this.counts);
    this.stopped = new AbortController();
    this.#summarise();
    this.map = new MapPart(cells, behind, info, this.groups, this.counts, {
      attempt, chosen: (cell) => this.#choose(cell), only: (code) => this.#filter(code), signal: this.stopped.signal,
    });
    byId("types").replaceChildren(composition(this.groups, cells.labels, this.counts, this.#mapped, swatch));
    byId("histograms").replaceChildren(
      histogram("How probable each cell's likeliest type is, calibrated on cells of the reference", "confidence", cells.columns.confidence),
      histogram("How novel cells look: the share of the reference's held-out cells that are less novel", "novelty", cells.columns.novelty),
    );
    const proteins = cells.about.proteins;
    byId("protein-section").hidden = !proteins.length;
    if (proteins.length) byId("proteins").replaceChildren(proteinTable(proteins, info, (place) => {
      this.map.colourBy(`protein ${place}`);
      byId("map").focus();
    }));
    this.#list();
    this.#downloads();
  }

  get #mapped() {
    return this.cells.length - this.cells.about.without_rna;
  }

  close() {
    this.stopped.abort();
  }

  #summarise() {
    const { about } = this.cells;
    const part = about.unknown / (this.#mapped || 1);
    const expected = share(about.options.false_positive_rate);
    byId("summary").replaceChildren(
      make("p", { class: "lead" }, `${several(this.#mapped, "cell")} mapped to ${about.reference.name} ${about.reference.version}` +
        (about.without_rna ? `; ${count(about.without_rna)} had no RNA` : "") + "."),
      make("p", {}, `${several(about.unknown, "cell is", "cells are")} unknown (${share(part)}): more novel than all but ${expected} ` +
        "of cells like the reference's."),
      warnings(about.messages, "Nothing to beware of."),
    );
  }

  #choose(cell) {
    this.map.choose(cell);
    this.table.mark(cell);
  }

  #list() {
    const { cells } = this;
    const { confidence, novelty, label, set } = cells.columns;
    // Names take a while to read; nobody may want to sort by them.
    const names = () => Array.from({ length: cells.length }, (_, cell) => cells.name(cell));
    const labels = () => Array.from({ length: cells.length }, (_, cell) => cells.label(cell));
    this.table = new CellTable(byId("cells"), cells.length, [
      { name: "Cell", text: (cell) => cells.name(cell), values: names, className: "" },
      { name: "Cell type", text: (cell) => cells.label(cell), values: labels, className: "" },
      { name: "Confidence", text: (cell) => decimals(confidence[cell]), values: () => confidence, className: "number narrow" },
      { name: "Novelty", text: (cell) => decimals(novelty[cell]), values: () => novelty, className: "number narrow extra" },
      { name: "All that fit", text: (cell) => cells.set(cell), values: () => set, className: "extra" },
    ], (cell) => this.#choose(cell));
    const only = byId("only");
    only.replaceChildren(make("option", { value: "" }, "all"),
      ...this.groups.map(({ code }) => make("option", { value: code }, cells.labels[code])));
    const search = byId("search");
    search.value = "";
    const signal = this.stopped.signal;
    const narrow = () => {
      const text = search.value.trim().toLowerCase();
      const code = only.value === "" ? null : Number(only.value);
      const named = cells.labels.map((name) => name.toLowerCase().includes(text));
      const wanted = (cell) => (code === null || label[cell] === code) &&
        (!text || named[label[cell]] || cells.name(cell).toLowerCase().includes(text));
      this.table.show(text || code !== null ? wanted : null);
      byId("cells-text").textContent = `${several(this.table.rows.length, "cell")} of ${count(cells.length)}`;
    };
    let timer = 0;
    search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(narrow, 120);
    }, { signal });
    only.addEventListener("change", () => {
      narrow();
      this.map.showOnly(only.value === "" ? null : Number(only.value));
    }, { signal });
    addEventListener("resize", () => this.table.draw(), { signal });
    narrow();
    this.narrow = narrow;
  }

  #filter(code) {
    byId("only").value = code ?? "";
    this.narrow();
  }

  #downloads() {
    const { signal } = this.stopped;
    const tell = (text) => (byId("download-text").textContent = text);
    tell("");
    for (const button of document.querySelectorAll("[data-part]")) {
      button.addEventListener("click", async () => {
        const { part } = button.dataset;
        button.disabled = true;
        tell("Preparing the file …");
        const done = await this.attempt(async () => {
          const response = await ask(`${this.cells.url}/${part}`, { signal });
          const suffix = /filename="?[^"]*\.(\w+)/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "bin";
          save(await response.blob(), `${this.stem}.${part === "report" ? part : "annotated"}.${suffix}`);
          return true;
        });
        tell(done ? "The browser has the file." : "");
        button.disabled = false;
        button.focus();
      }, { signal });
    }
    byId("png").addEventListener("click", () => this.attempt(async () => {
      save(await saveMap(this.map, this.stem), `${this.stem}.map.png`);
    }), { signal });
    byId("svg").addEventListener("click", () => {
      const { name, version } = this.cells.about.reference;
      const types = { groups: this.groups, labels: this.cells.labels, counts: this.counts, total: this.#mapped };
      const drawing = saveCharts(`${this.stem} on ${name} ${version}`, types, [...byId("histograms").querySelectorAll("svg")]);
      save(drawing, `${this.stem}.charts.svg`);
    }, { signal });
  }
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
