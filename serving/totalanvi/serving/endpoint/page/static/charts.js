// Bars and histograms, each with its numbers in a table.

import { count, draw, make, share, table } from "./dom.js";
import { GRID, INK, STYLES } from "./palette.js";

const BINS = 20;
const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [400, 230, 56, 26, 44];

/** A bar as long as a share. */
export function bar(value, colour) {
  const filled = make("div");
  filled.style.width = `${Math.max(value * 100, 0.3)}%`;
  filled.style.background = colour;
  return filled;
}

/** How many values lie in each of some equal steps from 0 to 1; those that are no numbers in none. */
export function counted(values) {
  const counts = new Array(BINS).fill(0);
  for (const value of values) if (value >= 0) counts[Math.min(BINS - 1, Math.floor(value * BINS))] += 1;
  return counts;
}

/** A histogram from 0 to 1. */
export function histogram(title, axis, values) {
  const counts = counted(values);
  const most = Math.max(...counts, 1);
  const right = WIDTH - 14;
  const base = HEIGHT - BOTTOM;
  const across = (value) => LEFT + value * (right - LEFT);
  const up = (value) => base - (value / most) * (base - TOP);
  const text = (content, x, y, anchor = "middle") => draw("text", { x, y, "text-anchor": anchor, "font-size": 13 }, content);
  const parts = [];
  for (const value of [0, most]) {
    parts.push(draw("line", { x1: LEFT, x2: right, y1: up(value), y2: up(value), stroke: value ? GRID : INK }));
    parts.push(text(count(value), LEFT - 6, up(value) + 4, "end"));
  }
  counts.forEach((number, bin) => parts.push(draw("rect", {
    x: across(bin / BINS) + 0.5, width: (right - LEFT) / BINS - 1, y: up(number), height: base - up(number), fill: STYLES[0].colour,
  })));
  for (const value of [0, 0.2, 0.4, 0.6, 0.8, 1]) parts.push(text(String(value), across(value), base + 18));
  parts.push(text(axis, (LEFT + right) / 2, HEIGHT - 6), text("cells", 4, 14, "start"));
  const chart = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, class: "plot" }, ...parts);
  const numbers = counts.map((number, bin) => [`${(bin / BINS).toFixed(2)} to ${((bin + 1) / BINS).toFixed(2)}`, count(number)]);
  return make("figure", {}, chart, make("figcaption", {}, title),
    make("details", {}, make("summary", {}, "The numbers"), table([axis, "Cells"], numbers, { numeric: [1] })));
}

/** How many cells each label has. */
export function composition(groups, labels, counts, total, mark) {
  const most = Math.max(...counts, 1);
  const rows = groups.map(({ code, sign, style }) => [
    make("span", { class: "named" }, mark(style), make("span", {}, sign), make("span", {}, labels[code])), bar(counts[code] / most, style.colour), count(counts[code]),
    share(counts[code] / total),
  ]);
  const made = table(["Cell type", make("span", { class: "unseen" }, "As a bar"), "Cells", "Share"], rows, { numeric: [2, 3], className: "bars" });
  for (const row of made.querySelectorAll("tr")) row.children[1].className = "bar";
  return made;
}
