// Elements out of text: nothing that a file or a reference calls itself is ever read as markup.

/** The element of the document with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} name
 * @param {object} given  attributes; `on…` are listeners, `class`, `text` and `aria-…` as they are called
 * @param {...(Node|string|null)} children  text is text
 */
export function make(name, given = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an element of a drawing. */
export function draw(name, given = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(given)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A table: headings, and rows of text or elements; a number of `numeric` says which columns hold numbers. */
export function table(headings, rows, { numeric = [], className = "" } = {}) {
  const cell = (tag, content, place, given = {}) =>
    make(tag, { class: numeric.includes(place) ? "number" : null, ...given }, content);
  return make(
    "table",
    { class: className },
    make("thead", {}, make("tr", {}, headings.map((heading, place) => cell("th", heading, place, { scope: "col" })))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((content, place) =>
      place === 0 ? cell("th", content, place, { scope: "row" }) : cell("td", content, place))))),
  );
}

const whole = new Intl.NumberFormat("en");

/** A whole number for people. */
export const count = (number) => whole.format(number);

/** One thing or several. */
export const several = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A share in per cent, never 0 % or 100 % of what is not. */
export function share(value) {
  const percent = value * 100;
  if (value > 0 && percent < 0.1) return "< 0.1 %";
  if (value < 1 && percent > 99.9) return "> 99.9 %";
  return `${percent.toFixed(percent >= 10 || percent === 0 ? 0 : 1)} %`;
}

/** Bytes for people. */
export function bytes(number) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let power = 0;
  while (number >= 1024 && power < units.length - 1) [number, power] = [number / 1024, power + 1];
  return `${Number(number.toFixed(number < 10 ? 1 : 0))} ${units[power]}`;
}
