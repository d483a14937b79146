// How well each protein is known without having been measured.

import { count, make, table } from "./dom.js";

const UNRELIABLE_BELOW = 0.3;

/** A table with a button for each protein that colours the map by it. */
export function proteinTable(proteins, info, colour) {
  const figure = (value) => (value === null || value === undefined ? "not known" : value.toFixed(2));
  const rows = proteins.map((name, place) => {
    const known = info.protein_reliability[place] ?? {};
    const doubtful = known.pearson !== null && known.pearson < UNRELIABLE_BELOW;
    return [
      name,
      doubtful ? make("span", { class: "unreliable" }, `${figure(known.pearson)}, do not rely on it`) : figure(known.pearson),
      known.n_cells === undefined ? "" : count(known.n_cells),
      make("button", { type: "button", class: "small", "aria-label": `Show ${name} on the map`, onclick: () => colour(place) }, "Show"),
    ];
  });
  return make("div", {},
    make("p", {}, "How well RNA alone predicts each protein: the correlation of imputed and measured counts over cells of the " +
      `reference that training did not see. Below ${UNRELIABLE_BELOW} an imputed value says little about a cell in which the ` +
      "protein was not measured."),
    make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Proteins" },
      table(["Protein", "Correlation", "Held-out cells", "On the map"], rows, { numeric: [2] })));
}
