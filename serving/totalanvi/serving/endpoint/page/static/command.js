// The command that maps a file which is too large for this page, safe to be pasted into a shell.

/** Quote a word for a POSIX shell: between single quotes, nothing has a meaning. */
export function quoted(word) {
  return /^[A-Za-z0-9_./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * The command line that maps a file to this endpoint.
 * @param {string} origin  the endpoint's address
 * @param {string} name  what the file is called
 * @param {string|null} reference  which of the endpoint's references is meant; null for its default one
 * @param {object} places  where things are in the file, by option; null where the command finds them by itself
 */
export function mapCommand(origin, name, reference = null, places = {}) {
  // A line break would end the command, and other control characters may steer a terminal.
  const plain = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(name) ? "FILE" : name;
  const path = plain.startsWith("-") ? `./${plain}` : plain;
  const kind = /\.h5mu$/i.test(plain) ? "h5mu" : "h5ad";
  const url = reference === null ? origin : `${origin}?reference=${encodeURIComponent(reference)}`;
  const told = Object.entries(places).filter(([, place]) => place !== null);
  const options = told.map(([option, place]) => ` --${option.replace("_", "-")} ${quoted(place)}`).join("");
  return `totalanvi map ${quoted(url)} ${quoted(path)} -o annotated.${kind}${options}`;
}
