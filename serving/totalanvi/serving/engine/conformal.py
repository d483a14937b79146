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

__all__ = ["label_scores", "probabilities_and_scores", "score_threshold"]

_ROUNDING = 1e-9
"""So that 0.9 × 10 is rank 9, not 10, whatever its last bit says."""

_LEAST = 1e-280
"""Of the other labels' powers together, relative to the likeliest one's: smaller ones lose digits."""


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
    return probabilities_and_scores(logits)[1]


def probabilities_and_scores(
    logits: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return the probability of each label, in float64 up to the last step, and what `label_scores` gives.

    Parameters
    ----------
    logits
        Calibrated, (cells, labels), two labels or more.
    """
    # Labels first: sums over them go along whole rows of cells.
    exact = np.array(np.transpose(logits), dtype=np.float64, order="C")
    cells = np.arange(exact.shape[1])
    top = exact.argmax(axis=0)
    exact -= exact[top, cells]
    powers = np.exp(exact)
    total = powers.sum(axis=0)
    probabilities = np.ascontiguousarray((powers / total).T, dtype=np.float32)
    # Of a label that is not the likeliest, the others hold at least half of the sum: nothing cancels. Those of the
    # likeliest are added up by themselves.
    powers[top, cells] = 0
    others = powers.sum(axis=0)
    np.subtract(total, powers, out=powers)
    powers[top, cells] = np.maximum(others, _LEAST)
    scores = np.log(powers, out=powers)
    scores -= exact
    if (few := np.flatnonzero(others < _LEAST)).size:
        # Relative to the highest of them.
        exact[top, cells] = -np.inf
        second = exact[:, few].max(axis=0)
        scores[top[few], few] = np.log(np.exp(exact[:, few] - second).sum(axis=0)) + second
    return probabilities, np.ascontiguousarray(scores.T)


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
