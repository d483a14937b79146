"""Figures of merit: how right and how honest the labels are, how novelty ranks, how close the imputed proteins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

BINS = 15


def label_figures(
    truth: npt.NDArray[np.str_],
    labels: npt.NDArray[np.str_],
    probabilities: Array,
    guess: npt.NDArray[np.str_] | None = None,
) -> dict[str, float]:
    """Score the labels of cells whose truth is known.

    Parameters
    ----------
    truth
        (cells,) the true label.
    labels
        (labels,) the columns of ``probabilities``.
    probabilities
        (cells, labels), rows summing to 1.
    guess
        (cells,) the label that the method says; its most probable one when left out.

    Returns
    -------
    ``accuracy``, ``macro_f1`` (over the labels that are present), ``log_loss`` (nats, probabilities clipped at 1e-15;
    a true label that the method cannot give counts as 1e-15) and ``ece`` (15 bins of equal width).
    """
    predicted = labels[probabilities.argmax(axis=1)] if guess is None else guess
    right = predicted == truth
    given = np.where(truth[:, None] == labels[None, :], probabilities, 0).sum(axis=1)
    return {
        "accuracy": float(right.mean()),
        "macro_f1": macro_f1(truth, predicted),
        "log_loss": float(-np.log(np.clip(given, 1e-15, 1)).mean()),
        "ece": expected_calibration_error(probabilities.max(axis=1), right),
    }


def set_figures(
    truth: npt.NDArray[np.str_], labels: npt.NDArray[np.str_], sets: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Score sets of labels, (cells, labels): ``coverage``, the share that holds the truth, and mean ``size``."""
    held = (sets & (truth[:, None] == labels[None, :])).any(axis=1)
    return {"coverage": float(held.mean()), "size": float(sets.sum(axis=1).mean())}


def auroc(novelty: Array, novel: npt.NDArray[np.bool_]) -> float:
    """Chance that a novel cell's novelty, (cells,), is above a known cell's; half where both are equal."""
    n_novel, n_known = novel.sum(), (~novel).sum()
    return float((rankdata(novelty)[novel].sum() - n_novel * (n_novel + 1) / 2) / (n_novel * n_known))


def macro_f1(truth: npt.NDArray[np.str_], predicted: npt.NDArray[np.str_]) -> float:
    """Mean over true labels of 2·TP / (2·TP + FP + FN)."""
    scores = []
    for label in np.unique(truth):
        hit = np.sum((truth == label) & (predicted == label))
        scores.append(2 * hit / (np.sum(truth == label) + np.sum(predicted == label)))
    return float(np.mean(scores))


def expected_calibration_error(confidence: Array, right: npt.NDArray[np.bool_]) -> float:
    """Mean distance between confidence and accuracy over equal-width bins (0, 1/15], …, weighted by their cells."""
    cell_bin = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(cell_bin, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def protein_correlations(
    observed: npt.NDArray[np.floating[Any]], imputed: npt.NDArray[np.floating[Any]], ranks: bool = False
) -> Array:
    """Correlate log1p(imputed) with log1p(observed), one figure per protein (proteins,).

    Pearson, or Spearman with ``ranks``. A protein that either side holds constant has no correlation and gives 0.
    """
    left, right = np.log1p(observed, dtype=np.float64), np.log1p(imputed, dtype=np.float64)
    if ranks:
        left, right = rankdata(left, axis=0), rankdata(right, axis=0)
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    norms = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    correlations: Array = np.divide((left * right).sum(axis=0), norms, out=np.zeros_like(norms), where=norms > 0)
    return correlations


def interval_coverage(
    observed: npt.NDArray[np.floating[Any]], low: npt.NDArray[np.floating[Any]], high: npt.NDArray[np.floating[Any]]
) -> Array:
    """Share of cells whose count lies in its interval, bounds included, one figure per protein (proteins,)."""
    coverage: Array = ((low <= observed) & (observed <= high)).mean(axis=0)
    return coverage
