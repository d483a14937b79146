// What is known of a file before it is mapped: how its names match the reference's, and what to beware of.

import { count, make, several, share, table } from "./dom.js";

const REASONS = { ambiguous: "could be several", taken: "another name is surer" };

/** Say what was found in a file. */
export function describe(found, file) {
  const { genes, proteins, notes, gene_weight: weight, gene_names: column } = found.alignment;
  const cells = several(found.n_cells, "cell") + (found.n_without_rna ? `, ${count(found.n_without_rna)} of them without RNA` : "");
  const facts = [
    ["File", file],
    ["Cells", cells],
    ["Counts", `RNA from ${found.rna}; ${found.proteins ? `proteins from ${found.proteins}` : "no proteins"}`],
    ["Genes", `${matched(genes)} by ${column}; they carry ${share(weight)} of what the model has learned from genes`],
    ["Proteins", genesOnly(proteins) ?? `${matched(proteins)} measured`],
  ];
  return [
    make("table", { class: "facts" }, make("tbody", {}, facts.map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value))))),
    warnings(found.messages, "Nothing to beware of: names and counts are as expected."),
    !found.proteins && proteins.missing ? make("p", { class: "quiet" },
      "If the file has proteins after all, choose it anew and say before where they are.") : null,
    notes.length ? make("ul", {}, notes.map((note) => make("li", {}, note))) : null,
    ...["genes", "proteins"].map((kind) => names(kind, found.alignment[kind])),
  ];
}

/** Say what to beware of, or that there is nothing. */
export function warnings(messages, none) {
  if (!messages.length) return make("p", { class: "fine" }, none);
  const list = make("ul", {}, messages.map((message) => make("li", {}, message)));
  return make("div", { class: "warning", role: "note", "aria-label": "Warnings" }, make("strong", {}, "Beware"), list);
}

const matched = ({ matched: known, missing }) => `${count(known)} of the reference's ${count(known + missing)}`;

const genesOnly = ({ matched: known, missing }) =>
  known ? null : missing ? `none of the reference's ${count(missing)} measured` : "the reference has none";

function names(kind, match) {
  const lists = [
    [`Missing from the file: ${count(match.missing)}`, match.missing_names, match.missing],
    [`Unknown to the reference, and left aside: ${count(match.extra)}`, match.extra_names, match.extra],
  ].filter(([, , total]) => total);
  const resolved = match.resolved.map(({ query, reference, way }) => [query, reference, way]);
  const left = match.left_out.map(({ query, reason, candidates }) => [query, REASONS[reason] ?? reason, candidates.join(", ")]);
  if (!lists.length && !resolved.length && !left.length) return null;
  return make("details", {}, make("summary", {}, `How ${kind} were matched`),
    lists.map(([title, shown, total]) => make("p", {}, `${title}. `,
      make("span", { class: "quiet" }, shown.join(", ") + (total > shown.length ? ", …" : "")))),
    listed("Taken for", ["In the file", "In the reference", "By"], resolved),
    listed("Left out", ["In the file", "Because", "Candidates"], left));
}

function listed(title, headings, rows) {
  if (!rows.length) return null;
  return make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": title },
    make("h3", {}, title), table(headings, rows.slice(0, 500)));
}
