"""How far a cell lies from every label, with the panel that was measured for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.engine.aligned import aligned
from totalanvi.serving.engine.compiled import compiled, given, room
from totalanvi.serving.engine.whitened_squares import ROWS, squaring

__all__ = ["LabelDensities", "compiled_least"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_MOST_PANELS = 64
"""Panels whose matrices are kept: a query has one, or one a batch."""


@dataclass(frozen=True, eq=False)
class _Gaussians:
    """Of the labels, over the features that were measured, in the order of `features`."""

    features: npt.NDArray[np.intp]
    means: Doubles
    """(labels, features)."""
    whitening: Doubles
    """Inverse Cholesky factors of the covariances, (labels, features, features)."""
    log_ratios: Doubles
    """log det of each covariance, less that of the shared one."""


@dataclass(frozen=True, eq=False)
class _Panel:
    """The same, ready for the search: in single precision, and filled up to whole parts of rows."""

    n_features: int
    features: npt.NDArray[np.intp]
    """Those that fill up are the one behind the last."""
    means: Floats
    """(labels, features)."""
    columns: Floats
    """Of the whitening matrices, label by label, some rows after the others: (columns, rows). Those that are left out
    have nothing but zeros in these rows."""
    log_ratios: Doubles

    @classmethod
    def of(cls, gaussians: _Gaussians, n_features: int) -> _Panel:
        """Lay out Gaussians over some of so many features."""
        n_known = len(gaussians.features)
        lacking = (0, -n_known % ROWS)
        whitening = np.pad(gaussians.whitening.astype(np.float32), ((0, 0), lacking, lacking))
        ends = range(ROWS, whitening.shape[1] + 1, ROWS)
        columns = [factor[end - ROWS : end, :end].T for factor in whitening for end in ends]
        return cls(
            n_known,
            np.pad(gaussians.features, lacking, constant_values=n_features),
            aligned(np.pad(gaussians.means.astype(np.float32), ((0, 0), lacking))),
            aligned(np.concatenate(columns)),
            gaussians.log_ratios,
        )


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
        self._least = compiled_least()

    def surprise(
        self,
        components: Floats,
        protein: Floats,
        measured: npt.NDArray[np.bool_],
        guess: npt.NDArray[np.integer] | None = None,
    ) -> Doubles:
        """Say how far cells lie from the label they are nearest to, (cells,).

        Parameters
        ----------
        components
            Of the RNA, (cells, components).
        protein
            Standardised, (cells, proteins).
        measured
            Which of it was measured, (cells, proteins).
        guess
            A label that each cell may be nearest to, (cells,): it makes no difference but to speed.

        Notes
        -----
        ``min over labels of (M² + log det C_label − log det C − d) / √(2 d)``, with M the Mahalanobis distance over the
        d features that are known, and C the covariance within labels: about standard normal for cells of a label with
        that covariance, whatever the panel.
        """
        n_components, n_features = components.shape[1], components.shape[1] + protein.shape[1]
        # A column of zeros behind them, for what fills up a panel.
        features = np.zeros((len(components), n_features + 1), dtype=np.float32)
        features[:, :n_components] = components
        features[:, n_components:n_features] = protein
        guess = np.zeros(len(features), dtype=np.int64) if guess is None else guess
        surprise = np.empty(len(features))
        for rows, pattern in _patterns(measured):
            panel = self._panel(pattern)
            known = features[rows].take(panel.features, axis=1)
            first, least = np.ascontiguousarray(guess[rows], dtype=np.int64), np.full(len(known), np.inf)
            asked, total = np.empty(len(known), dtype=np.int64), np.empty(len(known))
            self._least(known, first, panel.means, panel.columns, panel.log_ratios, asked, total, least)
            surprise[rows] = _scaled(least, panel.n_features)
        return surprise

    def surprise_of(self, least: Floats) -> Doubles:
        """Say the same of cells without proteins, from the least of what `without_proteins` makes of them, (cells,)."""
        return _scaled(least.astype(np.float64), self._arrays.n_components)

    def without_proteins(self) -> tuple[Floats, Floats, Floats]:
        """Return what `totalanvi.serving.bundles.graphs.DENSITY` is fed with beside components of the RNA."""
        known = self._gaussians(np.zeros(len(self._arrays.protein_centre), dtype=bool))
        order, rows = np.argsort(known.features), known.whitening
        centres = np.einsum("lij,lj->li", rows, known.means).reshape(1, -1)
        whitening = rows[:, :, order].transpose(2, 0, 1).reshape(len(order), -1)
        whitening32, centres32, log_ratios32 = (
            np.ascontiguousarray(array, dtype=np.float32) for array in (whitening, centres, known.log_ratios[None])
        )
        return whitening32, centres32, log_ratios32

    def _panel(self, measured: npt.NDArray[np.bool_]) -> _Panel:
        key = measured.tobytes()
        panel = self._panels.get(key)
        if panel is None:
            panel = _Panel.of(self._gaussians(measured), self._arrays.density_mean.shape[1])
            if len(self._panels) < _MOST_PANELS:
                self._panels[key] = panel
        return panel

    def _gaussians(self, measured: npt.NDArray[np.bool_]) -> _Gaussians:
        arrays = self._arrays
        known = np.concatenate([np.ones(arrays.n_components, dtype=bool), measured])
        # Those that tell labels apart come first, so that a label is soon given up.
        between, within = arrays.density_mean.var(axis=0), np.diag(arrays.density_shared)
        features = np.flatnonzero(known)
        features = features[np.argsort(-between[features] / within[features], kind="stable")]
        block = np.ix_(features, features)
        identity = np.eye(len(features))
        shared = _log_det(np.linalg.cholesky(arrays.density_shared.astype(np.float64)[block]))
        factors = [np.linalg.cholesky(each.astype(np.float64)[block]) for each in arrays.density_covariance]
        return _Gaussians(
            features,
            arrays.density_mean.astype(np.float64)[:, features],
            np.array([solve_triangular(factor, identity, lower=True) for factor in factors]),
            np.array([_log_det(factor) - shared for factor in factors]),
        )


def _patterns(measured: npt.NDArray[np.bool_]) -> list[tuple[npt.NDArray[np.intp] | slice, npt.NDArray[np.bool_]]]:
    """Group cells by what was measured: which cells, and their pattern, (proteins,)."""
    if (measured == measured[:1]).all():
        return [(slice(None), pattern) for pattern in measured[:1]]
    patterns, pattern_of = np.unique(np.packbits(measured, axis=1), axis=0, return_inverse=True)
    rows = [np.flatnonzero(pattern_of.ravel() == number) for number in range(len(patterns))]
    return [(of_pattern, measured[of_pattern[0]]) for of_pattern in rows]


def compiled_least() -> Callable[..., None]:
    """Return the search for the label that a cell is nearest to, compiled."""
    return compiled(
        _least,
        given("float32", 2),
        given("int64", 1),
        given("float32", 2),
        given("float32", 2),
        given("float64", 1),
        room("int64", 1),
        room("float64", 1),
        room("float64", 1),
        made=True,
    )


def _least() -> Callable[..., None]:
    square, n_rows = squaring(), ROWS

    def least_of(
        features: Floats,
        first: npt.NDArray[np.int64],
        means: Floats,
        columns: Floats,
        log_ratios: Doubles,
        asked: npt.NDArray[np.int64],
        total: Doubles,
        least: Doubles,
    ) -> None:
        """Set ``least``, infinite before, to each cell's smallest M² + log ratio over the labels; compiled by numba.

        A label's M² is a sum of squares: it is given up as soon as it has more than the smallest so far, which mostly
        is that of the ``first`` label. Some rows of one label are asked for all cells that have not given it up, so
        that they stay in the cache.
        """
        n_cells, n_labels, n_features = features.shape[0], means.shape[0], means.shape[1]
        n_columns = columns.shape[0] // n_labels
        for turn in range(2):
            for label in range(n_labels):
                n_asked = 0
                for row in range(n_cells):
                    asked[n_asked], total[row] = row, log_ratios[label]
                    n_asked += (first[row] == label) == (turn == 0) and total[row] < least[row]
                start, end = label * n_columns, n_rows
                while end <= n_features and n_asked > 0:
                    n_before, n_asked = n_asked, 0
                    for k in range(n_before):
                        row = asked[k]
                        total[row] += square(features, row, means, label, columns, start, end)
                        asked[n_asked] = row
                        n_asked += total[row] < least[row]
                    start += end
                    end += n_rows
                for k in range(n_asked):
                    least[asked[k]] = total[asked[k]]

    return least_of


def _scaled(least: Doubles, n_known: int) -> Doubles:
    scaled: Doubles = (least - n_known) / np.sqrt(2 * n_known)
    return scaled


def _log_det(factor: npt.NDArray[np.floating]) -> float:
    return float(2 * np.log(np.diag(factor)).sum())
