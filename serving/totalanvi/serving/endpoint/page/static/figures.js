// The charts as one drawing to keep: how many cells each type has, confidence, and novelty.

import { count, draw, share } from "./dom.js";
import { INK } from "./palette.js";

const [WIDTH, MARGIN, LINE, NAMES, NUMBERS] = [860, 20, 26, 290, 150];
const GAP = 20;

/**
 * Draw them below each other; returns an SVG file.
 * @param {string} title
 * @param {{groups: object[], labels: string[], counts: number[], total: number}} types
 * @param {SVGElement[]} histograms  beside each other, all of one shape
 */
export function saveCharts(title, { groups, labels, counts, total }, histograms) {
  const text = (content, x, y, given = {}) => draw("text", { x, y, "font-size": 14, fill: INK, ...given }, content);
  const most = Math.max(...counts, 1);
  const longest = WIDTH - 2 * MARGIN - NAMES - NUMBERS;
  const parts = [text(title, MARGIN, MARGIN + 16, { "font-size": 18, "font-weight": "bold" })];
  let top = MARGIN + LINE + GAP;
  for (const { code, sign, style } of groups) {
    const filled = Math.max((counts[code] / most) * longest, 1);
    // A name that is too long is written more narrowly.
    const name = `${sign}  ${labels[code]}`;
    parts.push(
      text(name, MARGIN, top + 14, name.length > 36 ? { textLength: NAMES - 10, lengthAdjust: "spacingAndGlyphs" } : {}),
      draw("rect", { x: MARGIN + NAMES, y: top + 2, width: filled, height: LINE - 10, fill: style.colour }),
      text(`${count(counts[code])} (${share(counts[code] / total)})`, MARGIN + NAMES + filled + 8, top + 14),
    );
    top += LINE;
  }
  top += GAP;
  const width = (WIDTH - 2 * MARGIN - GAP * (histograms.length - 1)) / histograms.length;
  const { width: wide, height: high } = histograms[0].viewBox.baseVal;
  histograms.forEach((histogram, place) => {
    const copy = histogram.cloneNode(true);
    const box = { x: MARGIN + place * (width + GAP), y: top, width, height: (width * high) / wide };
    for (const [name, value] of Object.entries(box)) copy.setAttribute(name, value);
    parts.push(copy);
  });
  const height = top + (width * high) / wide + MARGIN;
  const drawing = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, "font-family": "system-ui, sans-serif" },
    draw("rect", { width: WIDTH, height, fill: "#fff" }), ...parts);
  return new Blob([new XMLSerializer().serializeToString(drawing)], { type: "image/svg+xml" });
}
