// What a point's colour and shape say: its label, or a number.

import { INK, STYLES, UNKNOWN } from "./palette.js";
import { packed } from "./stamps.js";

const RAMP = [[185, 134, 0], [186, 78, 84], [120, 35, 125], [26, 18, 92]];
/** Steps of a ramp that gets darker all the way, so that it stays in order in grey and for every colour vision. */
const STEPS = 256;

const between = (low, high, share) => Math.round(low + (high - low) * share);
const hex = (number) => number.toString(16).padStart(2, "0");

/** The colour of a share between 0 and 1. */
export function rampColour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const from = Math.min(Math.floor(at), RAMP.length - 2);
  return `#${RAMP[from].map((low, channel) => hex(between(low, RAMP[from + 1][channel], at - from))).join("")}`;
}

const ramp = Array.from({ length: STEPS }, (_, step) => packed(rampColour(step / (STEPS - 1))));

/** Labels that some cell has, the commonest first and unknown last, each with a sign and a style. */
export function ranked(counts) {
  const unknown = counts.length - 1;
  const codes = counts.map((_, code) => code).filter((code) => code !== unknown && counts[code]);
  codes.sort((one, other) => counts[other] - counts[one] || one - other);
  const styled = codes.map((code, rank) => ({ code, sign: String(rank + 1), style: STYLES[rank % STYLES.length] }));
  return counts[unknown] ? [...styled, { code: unknown, sign: "?", style: UNKNOWN }] : styled;
}

/**
 * Colours and shapes by label.
 * @returns {{order: Uint32Array, styleOf: function, styles: object[]}}  cells in the order in which they are drawn, the
 *   style of each as a place in styles, which have a packed colour and a shape
 */
export function byLabel(codes, groups) {
  const rankOf = new Map(groups.map(({ code }, rank) => [code, rank]));
  const starts = new Uint32Array(groups.length + 1);
  for (const code of codes) if (code >= 0) starts[rankOf.get(code) + 1] += 1;
  for (let rank = 0; rank < groups.length; rank++) starts[rank + 1] += starts[rank];
  const order = new Uint32Array(starts[groups.length]);
  codes.forEach((code, cell) => {
    if (code >= 0) order[starts[rankOf.get(code)]++] = cell;
  });
  const ranks = Uint16Array.from(codes, (code) => rankOf.get(code) ?? 0);
  const styles = groups.map(({ style }) => ({ colour: packed(style.colour), shape: style.shape }));
  return { order, styleOf: (cell) => ranks[cell], styles };
}

/** Colours by a number between `low` and `high`; the highest are drawn last, so that none hides. */
export function byNumber(values, low, high) {
  const steps = Uint8Array.from(values, (value) => ((Math.min(Math.max(value, low), high) - low) / (high - low || 1)) * 255);
  const starts = new Uint32Array(STEPS + 1);
  const known = values.map((value) => (Number.isNaN(value) ? 0 : 1));
  known.forEach((one, cell) => (starts[steps[cell] + 1] += one));
  for (let step = 0; step < STEPS; step++) starts[step + 1] += starts[step];
  const order = new Uint32Array(starts[STEPS]);
  known.forEach((one, cell) => {
    if (one) order[starts[steps[cell]]++] = cell;
  });
  return { order, styleOf: (cell) => steps[cell], styles: ramp.map((colour) => ({ colour, shape: "dot" })) };
}

export const ink = packed(INK);
