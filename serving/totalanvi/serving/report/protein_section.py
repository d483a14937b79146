"""Imputed proteins: how well RNA predicts each, and where they are high."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from totalanvi.pages.elements import Child
from totalanvi.pages.matrix import matrix
from totalanvi.pages.page import Section, figure, paragraph
from totalanvi.pages.tables import table
from totalanvi.serving.bundles.confidence_figures import UNRELIABLE_BELOW, ProteinReliability
from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.report.protein_table import protein_table
from totalanvi.serving.report.record import MappingRecord
from totalanvi.serving.report.tally import Tally

__all__ = ["protein_section"]


def protein_section(labels: Sequence[str], proteins: Sequence[str], record: MappingRecord, tally: Tally) -> Section:
    """Show the proteins that were imputed.

    Parameters
    ----------
    labels, proteins
        The reference's, (labels,) and (proteins,).
    record, tally
        Of the report.
    """
    if not tally.has_proteins or not proteins:
        return Section("Proteins", [paragraph("No proteins were imputed.")])
    known = record.alignment.proteins
    measured = (
        f"The query measured {known.matched} of the reference's {known.matched + known.missing} proteins"
        if known.matched
        else "The query measured none of the reference's proteins"
    )
    content: list[Child] = [
        paragraph(
            f"{measured}. The table says how well RNA alone predicts each: the correlation of imputed and measured "
            f"counts over cells of the reference that training did not see. Below {UNRELIABLE_BELOW:g} an imputed "
            "value says little about a cell in which the protein was not measured."
        ),
        protein_table(proteins, _by_protein(record), np.expm1(tally.mean_protein).tolist()),
    ]
    if tally.n_mapped:
        content.append(_profile(labels, proteins, tally))
    return Section("Proteins", content)


def _profile(labels: Sequence[str], proteins: Sequence[str], tally: Tally) -> Child:
    cells = tally.label_cells
    present = np.flatnonzero(cells > 0)
    levels = tally.label_protein[present]
    span = np.ptp(levels, axis=0)
    # Each protein has a scale of its own; one that is the same everywhere is in the middle of it.
    relative = np.where(span > 1e-9, (levels - levels.min(axis=0)) / np.where(span > 1e-9, span, 1), 0.5)
    names = [*labels, UNKNOWN]
    rows = [names[code] for code in present.tolist()]
    title = "Mean imputed level of each protein in each cell type"
    numbers = table(
        ["Cell type", *proteins], [[name, *row] for name, row in zip(rows, np.expm1(levels).tolist(), strict=True)]
    )
    return figure(
        matrix(relative, rows, proteins, title),
        f"{title}: from light, the lowest of a protein's levels, to dark, its highest.",
        numbers,
        scroll=True,
    )


def _by_protein(record: MappingRecord) -> dict[str, ProteinReliability]:
    return {} if record.protein_reliability is None else record.protein_reliability.by_protein
