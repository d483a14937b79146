"""What label sets and novelty are worth in one query mode, on held-out cells of the reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.confidence_figures import ModeConfidence
from totalanvi.serving.engine.conformal import label_scores, score_threshold
from totalanvi.serving.engine.neighbours import NoveltyScale
from totalanvi.serving.mapped import MapOptions

__all__ = ["cross_fitted_sets", "judge_confidence", "own_label_scores"]

Floats = npt.NDArray[np.floating]
Codes = npt.NDArray[np.integer]

_FEWEST = 20
"""Labelled cells that are worth halving: with fewer, the sets of half of them would hold every label."""


def own_label_scores(logits: Floats, label: Codes) -> npt.NDArray[np.float32]:
    """Return labelled cells' scores of their own labels (`totalanvi.serving.engine.conformal`), ascending, (labelled,).

    Parameters
    ----------
    logits
        Calibrated, (cells, labels).
    label
        Codes, (cells,), -1 where there is none.
    """
    known = np.flatnonzero(label >= 0)
    return np.sort(label_scores(logits)[known, label[known]]).astype(np.float32)


def judge_confidence(
    logits: Floats, label: Codes, cells: npt.NDArray[np.integer], novelty: Floats, options: MapOptions
) -> ModeConfidence:
    """Measure label sets and novelty as a query with these options would get them.

    Parameters
    ----------
    logits
        Calibrated, (cells, labels).
    label
        Codes, (cells,), -1 where there is none.
    cells
        Which cell each is, (cells,): those that are seen several times stay in one half.
    novelty
        Novelty scores of held-out cells, or of what stands in for them, (any number,).
    options
        The coverage, and the share of the reference's own cells that may be called unknown.
    """
    known = np.flatnonzero(label >= 0)
    found = cross_fitted_sets(label_scores(logits[known]), label[known], cells[known], options.coverage)
    return ModeConfidence(
        coverage=options.coverage,
        n_labelled=len(np.unique(cells[known])),
        set_coverage=None if found is None else float(found[0].mean()),
        set_size=None if found is None else float(found[1].mean()),
        empty_sets=None if found is None else float((found[1] == 0).mean()),
        n_cells=len(novelty),
        false_positive_rate=options.false_positive_rate,
        novelty_threshold=NoveltyScale(novelty).score_at(options.false_positive_rate),
    )


def cross_fitted_sets(
    scores: Floats, own: Codes, cells: npt.NDArray[np.integer], coverage: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]] | None:
    """Give labelled cells the sets that the other half of them would ask for.

    Parameters
    ----------
    scores
        Of every label, (cells, labels).
    own
        The cells' labels, (cells,).
    cells
        Which cell each is, (cells,): those that are seen several times stay in one half.
    coverage
        What the sets are asked for.

    Returns
    -------
    holds, sizes
        Whether a cell's set holds its label, and how many labels are in it, (cells,); None with too few cells to halve.
    """
    if len(own) < _FEWEST:
        return None
    holds, sizes = np.empty(len(own), dtype=bool), np.empty(len(own), dtype=np.int64)
    of_own = scores[np.arange(len(own)), own]
    for half in (0, 1):
        judged = cells % 2 == half
        # In single precision, as the bundle keeps them.
        others = np.sort(of_own[~judged]).astype(np.float32)
        within = scores[judged] <= score_threshold(others, coverage)
        holds[judged] = within[np.arange(len(within)), own[judged]]
        sizes[judged] = within.sum(axis=1)
    return holds, sizes
