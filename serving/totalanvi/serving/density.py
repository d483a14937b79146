"""How far a cell lies from every label, with the panel that was measured for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from totalanvi.serving.readout_arrays import ReadoutArrays

__all__ = ["LabelDensities"]

_MOST_PANELS = 64
"""Panels whose matrices are kept: a query has one, or one a batch."""


@dataclass(frozen=True, eq=False)
class _Panel:
    """The labels' Gaussians over the features that were measured."""

    features: npt.NDArray[np.intp]
    means: npt.NDArray[np.float64]
    factors: list[npt.NDArray[np.float64]]
    """Cholesky factors of the covariances."""
    log_ratios: list[float]
    """log det of each covariance, less that of the shared one."""


class LabelDensities:
    """A Gaussian for each label; proteins that were not measured are integrated out.

    Parameters
    ----------
    arrays
        Of the bundle.
    """

    def __init__(self, arrays: ReadoutArrays) -> None:
        self._arrays = arrays
        self._panels: dict[bytes, _Panel] = {}

    def surprise(
        self,
        components: npt.NDArray[np.float32],
        protein: npt.NDArray[np.float32],
        measured: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """Say how far cells lie from the label they are nearest to, (cells,).

        Parameters
        ----------
        components
            Of the RNA, (cells, components).
        protein
            Standardised, (cells, proteins).
        measured
            Which of it was measured, (cells, proteins).

        Notes
        -----
        ``min over labels of (M² + log det C_label − log det C − d) / √(2 d)``, with M the Mahalanobis distance over the
        d features that are known, and C the covariance within labels: about standard normal for cells of a label with
        that covariance, whatever the panel.
        """
        features = np.hstack([components, protein]).astype(np.float64)
        surprise = np.empty(len(features))
        patterns, pattern_of = np.unique(measured, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(pattern_of.ravel() == number)
            panel = self._panel(pattern)
            surprise[rows] = _surprise(panel, features[np.ix_(rows, panel.features)])
        return surprise

    def _panel(self, measured: npt.NDArray[np.bool_]) -> _Panel:
        key = measured.tobytes()
        panel = self._panels.get(key)
        if panel is None:
            panel = self._marginal(measured)
            if len(self._panels) < _MOST_PANELS:
                self._panels[key] = panel
        return panel

    def _marginal(self, measured: npt.NDArray[np.bool_]) -> _Panel:
        arrays = self._arrays
        known = np.concatenate([np.ones(arrays.n_components, dtype=bool), measured])
        features = np.flatnonzero(known)
        block = np.ix_(features, features)
        shared = _log_det(np.linalg.cholesky(arrays.density_shared.astype(np.float64)[block]))
        factors = [np.linalg.cholesky(each.astype(np.float64)[block]) for each in arrays.density_covariance]
        return _Panel(
            features,
            arrays.density_mean.astype(np.float64)[:, features],
            factors,
            [_log_det(factor) - shared for factor in factors],
        )


def _surprise(panel: _Panel, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    n_features = features.shape[1]
    least = np.full(len(features), np.inf)
    for mean, factor, log_ratio in zip(panel.means, panel.factors, panel.log_ratios, strict=True):
        distance = np.square(solve_triangular(factor, (features - mean).T, lower=True)).sum(axis=0)
        np.minimum(least, distance + log_ratio, out=least)
    return np.asarray((least - n_features) / np.sqrt(2 * n_features))


def _log_det(factor: npt.NDArray[np.floating]) -> float:
    return float(2 * np.log(np.diag(factor)).sum())
