"""What a report shows of held-out cells: which labels are taken for which, and how often certainty was deserved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from totalanvi.export.label_confidence import cross_fitted_sets
from totalanvi.serving.engine.conformal import label_scores

__all__ = ["CONFIDENCE_STEPS", "COVERAGES_SHOWN", "HeldOutFigures", "held_out_figures"]

Floats = npt.NDArray[np.floating]

CONFIDENCE_STEPS = 10
"""Equal steps of confidence, from 0 to 1, in which a calibration curve is measured."""

COVERAGES_SHOWN = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Coverages at which label sets are judged."""


@dataclass(frozen=True, eq=False)
class HeldOutFigures:
    """Of labelled held-out cells in one query mode; a cell counts for each part of its panel that it was seen with.

    Parameters
    ----------
    confusion
        Cells by their own label and their likeliest one, (labels, labels).
    n_cells, confidence, accuracy
        By confidence, in `CONFIDENCE_STEPS` steps: how many cells, their mean confidence, and the share of them whose
        likeliest label is theirs; NaN where there is no cell, (steps,).
    coverage
        Share of cells whose set holds their label, for sets that were asked for each of `COVERAGES_SHOWN`; NaN where
        there are too few cells to tell, (coverages,).
    """

    confusion: npt.NDArray[np.int64]
    n_cells: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]


def held_out_figures(logits: Floats, label: npt.NDArray[np.integer], cells: npt.NDArray[np.integer]) -> HeldOutFigures:
    """Measure them.

    Parameters
    ----------
    logits
        Calibrated, (cells, labels).
    label
        Codes, (cells,), -1 where there is none; these cells are left out.
    cells
        Which cell each is, (cells,).
    """
    known = np.flatnonzero(label >= 0)
    own, n_labels = np.asarray(label)[known], logits.shape[1]
    probabilities = softmax(np.asarray(logits, dtype=np.float64)[known], axis=1)
    likeliest = probabilities.argmax(axis=1)
    confusion = np.zeros((n_labels, n_labels), np.int64)
    np.add.at(confusion, (own, likeliest), 1)
    highest = probabilities.max(axis=1)
    step = np.clip((highest * CONFIDENCE_STEPS).astype(np.intp), 0, CONFIDENCE_STEPS - 1)
    n_cells = np.bincount(step, minlength=CONFIDENCE_STEPS)

    def mean(values: Floats) -> npt.NDArray[np.float64]:
        sums = np.bincount(step, weights=values, minlength=CONFIDENCE_STEPS)
        return np.where(n_cells > 0, sums / np.maximum(n_cells, 1), np.nan)

    scores = label_scores(logits[known])
    sets = [cross_fitted_sets(scores, own, cells[known], coverage) for coverage in COVERAGES_SHOWN]
    return HeldOutFigures(
        confusion=confusion,
        n_cells=n_cells,
        confidence=mean(highest),
        accuracy=mean((likeliest == own).astype(np.float64)),
        coverage=np.array([np.nan if found is None else found[0].mean() for found in sets]),
    )
