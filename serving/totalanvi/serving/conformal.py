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

__all__ = ["label_scores", "score_threshold"]

_ROUNDING = 1e-9
"""So that 0.9 × 10 is rank 9, not 10, whatever its last bit says."""


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
    exact = np.asarray(logits, dtype=np.float64)
    nothing = np.full((len(exact), 1), -np.inf)
    # The others of a label are those before it and those after it: sums of exponentials without any subtraction.
    before = np.logaddexp.accumulate(np.hstack([nothing, exact[:, :-1]]), axis=1)
    after = np.logaddexp.accumulate(np.hstack([nothing, exact[:, :0:-1]]), axis=1)[:, ::-1]
    return np.asarray(np.logaddexp(before, after) - exact)


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
