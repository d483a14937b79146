"""The demo's picture: the query on the reference's map, by label, confidence and novelty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mudata as md
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.outputs.annotate import CONFIDENCE, LABEL, NOVELTY

__all__ = ["draw_map", "map_figure"]

# Okabe and Ito's colours, which people with any common colour vision tell apart, but for their black: circles need it.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#882255")
MARKERS = ("o", "s", "^", "D")
"""Labels beyond the colours repeat them with another marker."""
UNKNOWN_COLOUR, UNKNOWN_MARKER = "0.35", "X"
"""Crosses, as on the page and in reports; darker than the reference's cells behind, and no label's colour."""


def draw_map(query: md.MuData, reference_map: npt.NDArray[np.float32], unseen_label: str, path: Path) -> None:
    """Draw an annotated query as a PNG.

    Parameters
    ----------
    query
        An annotated query with its true ``"cell_type"``.
    reference_map
        (reference cells, 2), drawn in grey behind the query.
    unseen_label
        Cells of this true type are circled.
    path
        File to write.
    """
    map_figure(query, reference_map, unseen_label).savefig(path, dpi=150)


def map_figure(query: md.MuData, reference_map: npt.NDArray[np.float32], unseen_label: str) -> Figure:
    """Draw an annotated query; see `draw_map`."""
    # Without pyplot there is no window system to ask for and no state to leave behind.
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, 3, sharex=True, sharey=True))
    obs = query["rna"].obs
    place = np.asarray(query["rna"].obsm["X_totalanvi_map"])
    for axes, title in zip(panels, ("Predicted label", "Confidence", "Novelty"), strict=True):
        _dots(axes, reference_map, s=4, color="0.88")
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="box")

    predicted = obs[LABEL]
    labels = [label for label in predicted.cat.categories if label != UNKNOWN]
    styles = {
        label: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)]) for i, label in enumerate(labels)
    }
    for label, (colour, marker) in {**styles, UNKNOWN: (UNKNOWN_COLOUR, UNKNOWN_MARKER)}.items():
        cells = place[(predicted == label).to_numpy()]
        if len(cells) == 0:
            continue
        _dots(panels[0], cells, s=9, color=colour, marker=marker)
        _name(panels[0], float(np.median(cells[:, 0])), float(np.quantile(cells[:, 1], 0.9)), str(label))
    for axes, column in zip(panels[1:], (CONFIDENCE, NOVELTY), strict=True):
        # Poorly placed cells lie on top, where they are seen.
        value = obs[column].to_numpy()
        order = np.argsort(-value if column == CONFIDENCE else value)
        points = _dots(axes, place[order], s=9, c=value[order], cmap="cividis", vmin=0, vmax=1)
        figure.colorbar(points, ax=axes, shrink=0.7)
    unseen = (obs["cell_type"].astype(str) == unseen_label).to_numpy()
    for axes in panels:
        _dots(axes, place[unseen], s=24, facecolors="none", edgecolors="black", linewidths=0.5)
    figure.suptitle(
        f"{len(obs):,} query cells on the reference's map (grey); circled: {unseen_label}, which it never saw"
    )
    return figure


def _dots(axes: Axes, places: npt.NDArray[np.floating], **style: Any) -> PathCollection:
    return axes.scatter(places[:, 0], places[:, 1], **{"linewidths": 0, **style})


def _name(axes: Axes, x: float, top: float, label: str) -> None:
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}
    axes.annotate(label, (x, top), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=8, bbox=box)
