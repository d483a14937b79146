"""What a bundle's page says of labels: which are taken for which, and how often certainty is deserved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from totalanvi.export.held_out_figures import CONFIDENCE_STEPS, COVERAGES_SHOWN, HeldOutFigures
from totalanvi.pages.elements import Child, Element, element
from totalanvi.pages.matrix import matrix
from totalanvi.pages.page import Section, figure, paragraph, sideways
from totalanvi.pages.plots import Axis, Curve, curves
from totalanvi.pages.tables import Cell, count, percent, share, table
from totalanvi.serving.bundles.manifest import Manifest
from totalanvi.serving.bundles.modes import MODE_NAMES, MODES, Mode

__all__ = ["calibration_section", "confusion_section", "coverage_section"]

Figures = Mapping[Mode, HeldOutFigures]

_SHOWN_MODES: tuple[Mode, ...] = ("protein", "rna")
"""The ends; what part of a panel tells lies between."""

_FEWEST = 10
"""Cells that say something of their accuracy."""

_NONE = "No labelled cell was held out, so this was not measured."


def confusion_section(manifest: Manifest, figures: Figures) -> Section:
    """Show which labels held-out cells are given.

    Parameters
    ----------
    manifest
        Of the bundle.
    figures
        By query mode.
    """
    shown = [mode for mode in _SHOWN_MODES if figures[mode].confusion.any()]
    return Section(
        "Labels of held-out cells",
        [_confusion(manifest.labels, figures[mode], MODE_NAMES[mode]) for mode in shown] or [paragraph(_NONE)],
    )


def _confusion(labels: list[str], figures: HeldOutFigures, how: str) -> Element:
    counts = figures.confusion
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, counts / np.maximum(sums, 1), np.nan)
    rows: list[list[Cell]] = []
    for place, name in enumerate(labels):
        others = [
            (labels[i], int(counts[place, i])) for i in np.argsort(-counts[place]) if i != place and counts[place, i]
        ]
        taken = ", ".join(f"{other} ({count(n_cells)})" for other, n_cells in others)
        rows.append([name, int(sums[place, 0]), share(shares[place, place]) if sums[place, 0] else "–", taken])
    title = f"Labels of held-out cells, {how}"
    return element(
        "div",
        element("h3", how[0].upper() + how[1:]),
        figure(
            matrix(shares, labels, labels, title),
            f"Rows: a cell's own label; columns: its likeliest one. The darker, the larger the share of the row; "
            f"{share(float(np.trace(counts) / counts.sum()))} of {count(int(counts.sum()))} cells are given their own.",
            table(["Own label", "Cells", "Right", "Taken for"], rows),
            scroll=True,
        ),
    )


def calibration_section(manifest: Manifest, figures: Figures) -> Section:
    """Show how often labels of a confidence are right.

    Parameters
    ----------
    manifest, figures
        See `confusion_section`.
    """
    shown = [mode for mode in MODES if figures[mode].n_cells.any()]
    if not shown:
        return Section("Calibration", [paragraph(_NONE)])
    lines = []
    for mode in shown:
        enough = figures[mode].n_cells >= _FEWEST
        accuracy = np.where(enough, figures[mode].accuracy, np.nan)
        lines.append(Curve(MODE_NAMES[mode], figures[mode].confidence, accuracy, points=True))
    chart = curves(
        lines,
        Axis("confidence", 0, 1),
        Axis("accuracy", 0, 1),
        "Calibration curve: accuracy by confidence, for each query mode",
        diagonal=True,
    )
    steps: list[list[Cell]] = []
    for place in range(CONFIDENCE_STEPS):
        row: list[Cell] = [f"{place / CONFIDENCE_STEPS:.1f} to {(place + 1) / CONFIDENCE_STEPS:.1f}"]
        for mode in shown:
            row += [int(figures[mode].n_cells[place]), float(figures[mode].accuracy[place])]
        steps.append(row)
    columns = ["Confidence", *(name for mode in shown for name in (f"Cells, {MODE_NAMES[mode]}", "Accuracy"))]
    return Section(
        "Calibration",
        [
            figure(
                chart,
                "Of labels that are given with a confidence of 0.8, 80 % should be right: on the dotted line they are. "
                f"Steps with fewer than {_FEWEST} cells are in the table alone. The temperature that "
                "makes confidence fit was chosen on these cells.",
                table(columns, steps),
            ),
            _summary(manifest, shown),
        ],
    )


def _summary(manifest: Manifest, shown: list[Mode]) -> Child:
    rows: list[list[Cell]] = []
    for mode in shown:
        found = manifest.calibration[mode]
        figures = (found.accuracy, found.log_loss, found.expected_calibration_error)
        known = [float("nan") if value is None else value for value in figures]
        rows.append([MODE_NAMES[mode], found.n_cells, *known, found.temperature])
    columns = ["Query", "Cells", "Accuracy", "Log-loss", "Calibration error", "Temperature"]
    return sideways(table(columns, rows), "Calibration of each query mode")


def coverage_section(manifest: Manifest, figures: Figures) -> Section:
    """Show how often label sets hold the label.

    Parameters
    ----------
    manifest, figures
        See `confusion_section`.
    """
    shown = [mode for mode in MODES if np.isfinite(figures[mode].coverage).any()]
    if not shown:
        return Section("Label sets", [paragraph("Too few labelled cells were held out to measure them.")])
    lines = [Curve(MODE_NAMES[mode], COVERAGES_SHOWN, figures[mode].coverage, points=True) for mode in shown]
    lowest = min(0.5, *(float(np.nanmin(figures[mode].coverage)) for mode in shown))
    chart = curves(
        lines,
        Axis("coverage that was asked for", 0.5, 1),
        Axis("share of cells", lowest, 1),
        "Share of cells whose label set holds their label, by the coverage that was asked for",
        diagonal=True,
    )
    rows: list[list[Cell]] = [
        [percent(asked), *(share(float(figures[mode].coverage[place])) for mode in shown)]
        for place, asked in enumerate(COVERAGES_SHOWN)
    ]
    content: list[Child] = [
        figure(
            chart,
            "Conformal label sets: how many cells have their label in their set. Half of the cells set the threshold "
            "for the other half, so that what is shown is what a query like them would get.",
            table(["Asked for", *(MODE_NAMES[mode] for mode in shown)], rows),
        )
    ]
    for mode in shown:
        found = manifest.confidence[mode]
        if found.set_size is not None and found.empty_sets is not None:
            content.append(
                paragraph(
                    f"{MODE_NAMES[mode][0].upper()}{MODE_NAMES[mode][1:]}, asked for {percent(found.coverage)}: "
                    f"{found.set_size:.2f} labels on average; {share(found.empty_sets)} of sets are empty."
                )
            )
    return Section("Label sets", content)
