// The map as a picture to keep, with what its colours mean below it.

import { rampColour } from "./colouring.js";
import { count } from "./dom.js";
import { INK } from "./palette.js";
import { drawnMark } from "./stamps.js";

const [SIDE, MARGIN, LINE, MARK] = [1600, 40, 44, 32];

/** Paint the map of a part as it is looked at now; returns a PNG. */
export async function saveMap(part, title) {
  const columns = 2;
  const entries = part.ends === null ? part.groups : [];
  const lines = part.ends === null ? Math.ceil(entries.length / columns) : 2;
  const canvas = document.createElement("canvas");
  canvas.width = SIDE;
  canvas.height = SIDE + 3 * MARGIN + LINE + lines * LINE;
  const context = canvas.getContext("2d");
  part.painter.paint(context, SIDE, 2);
  // What was not painted is transparent; it shall be paper.
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = INK;
  context.textAlign = "left";
  context.textBaseline = "middle";
  let top = SIDE + MARGIN;
  const write = (text, left, at, font = "26px system-ui, sans-serif") => {
    context.font = font;
    context.fillStyle = INK;
    context.fillText(text, left, at, SIDE / columns - 2 * MARGIN);
  };
  const { name, version } = part.cells.about.reference;
  context.font = "bold 28px system-ui, sans-serif";
  context.fillText(`${title} on ${name} ${version}, ${count(part.cells.length)} cells`, MARGIN, top, SIDE - 2 * MARGIN);
  top += LINE + MARGIN / 2;
  entries.forEach(({ code, sign, style }, place) => {
    const left = MARGIN + (place % columns) * (SIDE / columns);
    const at = top + Math.floor(place / columns) * LINE;
    context.putImageData(drawnMark(style, MARK, 10), left, at - MARK / 2);
    write(`${sign}  ${part.cells.labels[code]} (${count(part.counts[code])})`, left + MARK + 10, at);
  });
  if (part.ends !== null) {
    for (let step = 0; step < 600; step++) {
      context.fillStyle = rampColour(step / 599);
      context.fillRect(MARGIN + step, top - 12, 1, 24);
    }
    const ends = part.ends.map((value) => Number(value.toPrecision(3)));
    write(`${part.title}, from ${ends[0]} to ${ends[1]}`, MARGIN + 620, top);
  }
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
