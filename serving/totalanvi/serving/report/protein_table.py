"""How well RNA alone predicts each protein, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from totalanvi.pages.elements import Element
from totalanvi.pages.tables import Bar, Cell, table
from totalanvi.serving.bundles.confidence_figures import ProteinReliability

__all__ = ["protein_table"]

_UNKNOWN = ProteinReliability(n_cells=0, pearson=None, spearman=None)


def protein_table(
    proteins: Sequence[str], reliability: dict[str, ProteinReliability], means: Sequence[float] | None = None
) -> Element:
    """Make the table.

    Parameters
    ----------
    proteins
        The reference's, (proteins,).
    reliability
        By protein, where it is known.
    means
        Mean imputed levels, (proteins,); None leaves the column out.
    """
    rows: list[list[Cell]] = []
    for place, name in enumerate(proteins):
        known = reliability.get(name, _UNKNOWN)
        verdict = "not known" if known.pearson is None else "" if known.reliable else "not reliable"
        rows.append(
            [
                name,
                Bar(max(known.pearson or 0, 0), low=not known.reliable),
                _figure(known.pearson),
                _figure(known.spearman),
                known.n_cells,
                *([] if means is None else [float(means[place])]),
                verdict,
            ]
        )
    mean = [] if means is None else ["Mean imputed"]
    caption = "Pearson: of log counts" + ("" if means is None else "; mean imputed: geometric, over all cells")
    columns = ["Protein", "", "Pearson", "Spearman", "Cells measured", *mean, "From RNA"]
    return table(columns, rows, caption, spare=(3, 4) if means is None else (3, 4, 5))


def _figure(value: float | None) -> float:
    return float("nan") if value is None else value
