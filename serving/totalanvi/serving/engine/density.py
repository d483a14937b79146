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
from totalanvi.serving.engine.row_sums import COLUMNS, summing_rows

__all__ = ["LabelDensities", "compiled_least"]

Doubles = npt.NDArray[np.float64]

_MOST_PANELS = 64
"""Panels whose matrices are kept: a query has one, or one a batch."""


_ROWS = 2 * COLUMNS
"""Of a whitening matrix that are added up at a time: a label that is far has mostly shown it after so many."""


@dataclass(frozen=True, eq=False)
class _Panel:
    """The labels' Gaussians over the features that were measured, in the order of `features`."""

    features: npt.NDArray[np.intp]
    means: Doubles
    """(labels, features), with zeros behind them that fill up the last rows."""
    whitening: Doubles
    """Inverse Cholesky factors of the covariances, some rows at a time, (labels · parts · features, rows)."""
    log_ratios: Doubles
    """log det of each covariance, less that of the shared one."""

    def whole(self) -> tuple[Doubles, Doubles]:
        """Return means, (labels, features), and whitening matrices, (labels, features, features)."""
        n_labels, n_padded = self.means.shape
        rows = self.whitening.reshape(n_labels, -1, n_padded, _ROWS).swapaxes(2, 3).reshape(n_labels, n_padded, -1)
        n_features = len(self.features)
        return self.means[:, :n_features], rows[:, :n_features, :n_features]


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
        components: npt.NDArray[np.float32],
        protein: npt.NDArray[np.float32],
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
        n_components = components.shape[1]
        features = np.empty((len(components), n_components + protein.shape[1]), dtype=np.float32)
        features[:, :n_components] = components
        features[:, n_components:] = protein
        guess = np.zeros(len(features), dtype=np.int64) if guess is None else guess
        surprise = np.empty(len(features))
        for rows, pattern in _patterns(measured):
            panel = self._panel(pattern)
            n_known = len(panel.features)
            known = np.zeros((len(features[rows]), panel.means.shape[1]))
            known[:, :n_known] = features[rows].take(panel.features, axis=1)
            first, least = np.ascontiguousarray(guess[rows], dtype=np.int64), np.empty(len(known))
            by_first = np.argsort(first, kind="stable")
            self._least(known, first, by_first, panel.means, panel.whitening, panel.log_ratios, least)
            surprise[rows] = _scaled(least, n_known)
        return surprise

    def surprise_of(self, least: npt.NDArray[np.float32]) -> Doubles:
        """Say the same of cells without proteins, from the least of what `without_proteins` makes of them, (cells,)."""
        return _scaled(least.astype(np.float64), self._arrays.n_components)

    def without_proteins(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return what `totalanvi.serving.bundles.manifest.DENSITY` is fed with beside components of the RNA."""
        panel = self._panel(np.zeros(len(self._arrays.protein_centre), dtype=bool))
        order, (means, rows) = np.argsort(panel.features), panel.whole()
        centres = np.einsum("lij,lj->li", rows, means).reshape(1, -1)
        whitening = rows[:, :, order].transpose(2, 0, 1).reshape(len(order), -1)
        whitening32, centres32, log_ratios32 = (
            np.ascontiguousarray(array, dtype=np.float32) for array in (whitening, centres, panel.log_ratios[None])
        )
        return whitening32, centres32, log_ratios32

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
        # Those that tell labels apart come first, so that a label is soon given up.
        between, within = arrays.density_mean.var(axis=0), np.diag(arrays.density_shared)
        features = np.flatnonzero(known)
        features = features[np.argsort(-between[features] / within[features], kind="stable")]
        block = np.ix_(features, features)
        identity = np.eye(len(features))
        shared = _log_det(np.linalg.cholesky(arrays.density_shared.astype(np.float64)[block]))
        factors = [np.linalg.cholesky(each.astype(np.float64)[block]) for each in arrays.density_covariance]
        n_lacking = -len(features) % _ROWS
        means = np.pad(arrays.density_mean.astype(np.float64)[:, features], ((0, 0), (0, n_lacking)))
        whitening = np.zeros((len(factors), means.shape[1], means.shape[1]))
        for label, factor in enumerate(factors):
            whitening[label, : len(features), : len(features)] = solve_triangular(factor, identity, lower=True)
        parts = whitening.reshape(len(factors), -1, _ROWS, means.shape[1]).swapaxes(2, 3)
        return _Panel(
            features,
            np.ascontiguousarray(means),
            aligned(parts.reshape(-1, _ROWS)),
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
        given("float64", 2),
        given("int64", 1),
        given("int64", 1),
        given("float64", 2),
        given("float64", 2),
        given("float64", 1),
        room("float64", 1),
        reorder_sums=True,
        made=True,
    )


def _least() -> Callable[..., None]:
    add, n_rows = summing_rows(_ROWS // COLUMNS), _ROWS

    def least_of(
        features: Doubles,
        first: npt.NDArray[np.int64],
        by_first: npt.NDArray[np.int64],
        means: Doubles,
        whitening: Doubles,
        log_ratios: Doubles,
        least: Doubles,
    ) -> None:
        """Set ``least`` to each cell's smallest M² + log ratio over the labels; compiled by numba.

        A label's M² is a sum of squares: it is given up as soon as it has more than the smallest so far, which mostly
        is that of the ``first`` label. One label after the other is asked for all cells, so that what is read of it
        stays in the cache.
        """
        n_cells, n_labels, n_features = features.shape[0], means.shape[0], means.shape[1]
        difference, whitened = np.empty(n_features, np.float64), np.empty((1, n_rows), np.float64)
        for cell in range(n_cells):
            least[cell] = np.inf
        for turn in range(-1, n_labels):
            for asked in range(n_cells):
                row = by_first[asked] if turn < 0 else asked
                label = first[row] if turn < 0 else turn
                if turn == first[row]:
                    continue
                total, end = log_ratios[label], 0
                while end < n_features and total < least[row]:
                    # Where this label's features of these rows begin.
                    start = (label * n_features + end) // n_rows * n_features
                    for j in range(end, end + n_rows):
                        difference[j] = features[row, j] - means[label, j]
                    end += n_rows
                    for i in range(n_rows):
                        whitened[0, i] = 0
                    # Beyond, these rows have nothing but zeros.
                    add(start, difference, 0, end, whitening, 0, whitened, 0)
                    for i in range(n_rows):
                        total += whitened[0, i] * whitened[0, i]
                least[row] = min(least[row], total)

    return least_of


def _scaled(least: Doubles, n_known: int) -> Doubles:
    scaled: Doubles = (least - n_known) / np.sqrt(2 * n_known)
    return scaled


def _log_det(factor: npt.NDArray[np.floating]) -> float:
    return float(2 * np.log(np.diag(factor)).sum())
