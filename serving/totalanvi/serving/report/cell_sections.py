"""What became of the cells: their types, their places on the map, how sure that is, and how novel they look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from totalanvi.pages.elements import Element
from totalanvi.pages.page import Section, figure, paragraph
from totalanvi.pages.palette import UNKNOWN_STYLE, LabelStyle, ranked_styles, swatch
from totalanvi.pages.plots import Axis, Mark, histogram
from totalanvi.pages.scatter import Group, cell_map
from totalanvi.pages.tables import Bar, Cell, count, percent, share, table
from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.report.record import MappingRecord
from totalanvi.serving.report.tally import BINS, Tally

__all__ = ["certainty_section", "map_section", "novelty_section", "types_section"]

_SHOWN_BINS = 20
_NO_CELLS = "No cell was mapped."


def types_section(labels: Sequence[str], tally: Tally) -> Section:
    """Show how many cells were given each label.

    Parameters
    ----------
    labels
        The reference's, (labels,).
    tally
        Of the report.
    """
    if not tally.n_mapped:
        return Section("Cell types", [paragraph(_NO_CELLS)])
    cells, most = tally.label_cells, max(int(tally.label_cells.max()), 1)
    rows: list[list[Cell]] = [
        [
            [swatch(style), f"{sign} ", _name(labels, code)],
            Bar(cells[code] / most, style.colour),
            int(cells[code]),
            share(cells[code] / tally.n_mapped),
            f"{tally.median_confidence(code):.2f}",
        ]
        for code, sign, style in _ranked(tally)
    ]
    absent = [name for name, n_cells in zip(labels, cells, strict=False) if not n_cells]
    none = f" No cell was given {', '.join(absent)}." if absent else ""
    return Section(
        "Cell types",
        [
            paragraph(f"The label that each cell was given; the sign before it stands for it on the map.{none}"),
            table(["Cell type", "", "Cells", "Share", "Median confidence"], rows, spare=(4,)),
        ],
    )


def map_section(labels: Sequence[str], tally: Tally, landmarks: npt.NDArray[np.float32] | None) -> Section:
    """Show where the cells are on the reference's map.

    Parameters
    ----------
    labels
        The reference's, (labels,).
    tally
        Of the report.
    landmarks
        Places of the reference's own cells, (landmarks, 2), or None.
    """
    sample = tally.sample
    if not tally.has_coordinates:
        return Section("Map", [paragraph("The places of cells on the reference's map are not in this output.")])
    if not len(sample.coordinates):
        return Section("Map", [paragraph(_NO_CELLS)])
    groups = [
        Group(
            _name(labels, code),
            sample.coordinates[sample.label == code],
            style,
            sign,
            f"({count(int(tally.label_cells[code]))})",
        )
        for code, sign, style in _ranked(tally)
    ]
    shown = len(sample.coordinates)
    which = (
        f"{count(shown)} of the {count(tally.n_mapped)} cells, drawn evenly" if shown < tally.n_mapped else "All cells"
    )
    behind = "; grey behind them, cells of the reference" if landmarks is not None else ""
    caption = (
        f"{which}, on the reference's map{behind}. Each colour and shape is a cell type, and its sign stands among its "
        "cells. Distances on a map are rough: what is near is alike, what is far need not be unlike."
    )
    title = f"Map of {count(shown)} cells of the query, coloured by cell type"
    return Section("Map", [figure(cell_map(groups, title, landmarks), caption)])


def certainty_section(record: MappingRecord, tally: Tally) -> Section:
    """Show how sure the labels are.

    Parameters
    ----------
    record, tally
        Of the report.
    """
    if not tally.n_mapped:
        return Section("Confidence", [paragraph(_NO_CELLS)])
    by_confidence = tally.confidence.sum(axis=0)
    sure = by_confidence[BINS * 9 // 10 :].sum() / tally.n_mapped
    chart = histogram(_shown(by_confidence), Axis("confidence", 0, 1), "cells", "Histogram of the cells' confidence")
    sizes: list[list[Cell]] = [
        [str(size), Bar(n_cells / tally.n_mapped), n_cells, share(n_cells / tally.n_mapped)]
        for size, n_cells in enumerate(tally.set_sizes.tolist())
        if n_cells
    ]
    return Section(
        "Confidence",
        [
            figure(
                chart,
                f"How probable each cell's likeliest label is, calibrated on cells of the reference that training did "
                f"not see. {share(float(sure))} of the cells have 0.9 or more.",
                _histogram_table("Confidence", by_confidence),
            ),
            paragraph(
                f"A cell's label set has every label that fits it; of cells like the reference's, "
                f"{percent(record.options.coverage)} have theirs in it. An empty set says that none fits."
            ),
            table(["Labels in the set", "", "Cells", "Share"], sizes),
        ],
    )


def novelty_section(record: MappingRecord, tally: Tally) -> Section:
    """Show how novel the cells look.

    Parameters
    ----------
    record, tally
        Of the report.
    """
    if not tally.n_mapped:
        return Section("Novelty", [paragraph(_NO_CELLS)])
    threshold = 1 - record.options.false_positive_rate
    title = "Histogram of the cells' novelty"
    mark = Mark(threshold, f"unknown beyond {threshold:g}")
    chart = histogram(_shown(tally.novelty), Axis("novelty", 0, 1), "cells", title, mark)
    return Section(
        "Novelty",
        [
            figure(
                chart,
                "A cell's novelty is the share of the reference's own held-out cells that are less novel than it. Of "
                "cells just like the reference's, each step of the histogram has as many; a peak at 1 is of cells "
                f"unlike them. {count(tally.n_beyond)} cells ({share(tally.n_beyond / tally.n_mapped)}) lie beyond "
                f"{threshold:g}, where {percent(record.options.false_positive_rate)} would be expected.",
                _histogram_table("Novelty", tally.novelty),
            )
        ],
    )


def _ranked(tally: Tally) -> list[tuple[int, str, LabelStyle]]:
    """Codes of the labels that some cell was given, with sign and style, the commonest first and unknown last."""
    cells = tally.label_cells
    ranked = ranked_styles(cells[:-1])
    return [*ranked, (len(cells) - 1, "?", UNKNOWN_STYLE)] if cells[-1] else ranked


def _name(labels: Sequence[str], code: int) -> str:
    return labels[code] if code < len(labels) else UNKNOWN


def _shown(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    shown: npt.NDArray[np.int64] = counts.reshape(_SHOWN_BINS, -1).sum(axis=1)
    return shown


def _histogram_table(what: str, counts: npt.NDArray[np.int64]) -> Element:
    step = 1 / _SHOWN_BINS
    rows: list[list[Cell]] = [
        [f"{step * place:.2f} to {step * (place + 1):.2f}", n_cells]
        for place, n_cells in enumerate(_shown(counts).tolist())
    ]
    return table([what, "Cells"], rows)
