"""Label sets that hold the true label as often as asked: split conformal prediction.

A label's score is the log odds against it, ``s_y = log Σ_{j≠y} exp(l_j) − l_y`` for calibrated logits l. It is computed
in float64 and goes on where probabilities saturate at 0 or 1, so that no two cells tie. A set holds the labels whose
score is at most that of the given share of held-out reference cells' own labels. It may be empty: then no label fits as
well as theirs do for that share of cells. That is what makes the coverage equal to what was asked for, not larger.

References
----------
Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World. Springer 2005. Sadinle, Lei, Wasserman: Least ambiguous
set-valued classifiers with bounded error levels. JASA 2019.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["LabelOdds", "label_scores", "score_threshold"]

_ROUNDING = 1e-9
"""So that 0.9 × 10 is rank 9, not 10, whatever its last bit says."""

_LEAST = 1e-280
"""Of the other labels' powers together, relative to the likeliest one's: smaller ones lose digits."""


class LabelOdds:
    """What the logits of cells say of their labels; labels come first here, so that sums go along whole rows of cells.

    Parameters
    ----------
    by_label
        Calibrated logits, (labels, cells), contiguous, two labels or more.

    Examples
    --------
    >>> odds = LabelOdds(np.array([[0.0], [0.0]]))
    >>> odds.probabilities().tolist(), odds.scores().tolist()
    ([[0.5], [0.5]], [[0.0], [0.0]])
    """

    def __init__(self, by_label: npt.NDArray[np.float64]) -> None:
        self._top: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] = (
            by_label.argmax(axis=0),
            np.arange(by_label.shape[1]),
        )
        self._below = by_label - by_label[self._top]
        self._powers = np.exp(self._below)
        self._total = self._powers.sum(axis=0)

    @property
    def likeliest(self) -> npt.NDArray[np.intp]:
        """The likeliest label of each cell, the first of several, (cells,)."""
        return self._top[0]

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Return how probable each label is, (labels, cells)."""
        return np.asarray(self._powers / self._total)

    def confidence(self) -> npt.NDArray[np.float64]:
        """Return how probable the likeliest label is, (cells,)."""
        return np.asarray(1 / self._total)

    def scores(self) -> npt.NDArray[np.float64]:
        """Return the log odds against each label, (labels, cells)."""
        powers, below, top = self._powers, self._below, self._top
        # Of a label that is not the likeliest, the others hold at least half of the sum: nothing cancels. Those of the
        # likeliest are added up by themselves.
        powers[top] = 0
        others = powers.sum(axis=0)
        scores = self._total - powers
        powers[top] = 1  # as it was
        scores[top] = np.maximum(others, _LEAST)
        np.log(scores, out=scores)
        scores -= below
        if (few := np.flatnonzero(others < _LEAST)).size:
            # Relative to the highest of them.
            rest = below[:, few]
            rest[top[0][few], np.arange(few.size)] = -np.inf
            second = rest.max(axis=0)
            scores[top[0][few], few] = np.log(np.exp(rest - second).sum(axis=0)) + second
        return np.asarray(scores)


def label_scores(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the log odds against each label, (cells, labels).

    Parameters
    ----------
    logits
        Calibrated, (cells, labels), two labels or more.

    Examples
    --------
    >>> label_scores(np.array([[0.0, 0.0], [100.0, 0.0]])).tolist()
    [[0.0, 0.0], [-100.0, 100.0]]
    """
    by_label = np.ascontiguousarray(np.asarray(logits, dtype=np.float64).T)
    return np.ascontiguousarray(LabelOdds(by_label).scores().T)


def score_threshold(scores: npt.NDArray[np.floating], coverage: float) -> float:
    """Return the score up to which a label belongs to the set.

    Parameters
    ----------
    scores
        Of held-out cells' own labels, ascending, (cells,).
    coverage
        Share of cells whose set is to hold their label.

    Returns
    -------
    float
        The ``⌈(cells + 1) · coverage⌉``-th smallest score; infinite, so that every label belongs to every set, when
        there are too few cells for that coverage.

    Examples
    --------
    >>> score_threshold(np.arange(1.0, 10.0), 0.9), score_threshold(np.arange(1.0, 9.0), 0.9)
    (9.0, inf)
    """
    rank = math.ceil((len(scores) + 1) * coverage - _ROUNDING)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf
