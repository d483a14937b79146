"""How well RNA alone predicts each protein of a reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from totalanvi.export.interval_fit import FEWEST_CELLS
from totalanvi.serving.bundles.confidence_figures import ProteinReliability
from totalanvi.serving.engine.scores import Imputed

__all__ = ["correlation", "judge_reliability"]

Floats = npt.NDArray[np.floating]


def judge_reliability(counts: Floats, measured: npt.NDArray[np.bool_], imputed: Imputed) -> list[ProteinReliability]:
    """Hold imputed proteins against measured ones.

    Parameters
    ----------
    counts
        Of held-out cells, (cells, proteins).
    measured
        Which of them were measured, (cells, proteins).
    imputed
        The same cells' proteins from RNA alone.

    Returns
    -------
    list of ProteinReliability
        (proteins,); without figures where fewer than `FEWEST_CELLS` cells measured the protein.
    """
    rows = [np.flatnonzero(of_protein) for of_protein in measured.T]
    return [
        ProteinReliability(
            n_cells=len(cells),
            pearson=correlation(np.log1p(counts[cells, j]), np.log1p(imputed.expected[cells, j])),
            spearman=correlation(rankdata(counts[cells, j]), rankdata(imputed.denoised[cells, j])),
        )
        if len(cells) >= FEWEST_CELLS
        else ProteinReliability(n_cells=len(cells), pearson=None, spearman=None)
        for j, cells in enumerate(rows)
    ]


def correlation(measured: Floats, imputed: Floats) -> float | None:
    """Return the correlation of two columns, (cells,).

    Returns
    -------
    float or None
        None when all measured values are the same: there is nothing to predict. 0 when all imputed ones are: nothing is
        predicted.

    Examples
    --------
    >>> correlation(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0]))
    1.0
    >>> correlation(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    0.0
    """
    measured, imputed = (np.asarray(values, dtype=np.float64) for values in (measured, imputed))
    if np.ptp(measured) == 0:
        return None
    if np.ptp(imputed) == 0:
        return 0.0
    return round(float(np.clip(np.corrcoef(measured, imputed)[0, 1], -1, 1)), 6)
