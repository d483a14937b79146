"""Raw counts of groups of cells: their mean, the share above zero, the mean of normalised counts.

Each is a product of the sparse counts with a weight per cell: neither a dense copy nor a copy of a group is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from totalanvi.training.data import Cells

__all__ = ["RawCounts", "RawStatistics", "as_columns"]

_COUNTS_PER_CELL = 1e4

Floats = npt.NDArray[np.float64]


class RawStatistics(NamedTuple):
    """What a group counts of each feature, (features,) each; named like the columns of a result."""

    raw_mean: Floats
    non_zeros_proportion: Floats
    """Share of the cells with a count."""
    raw_normalized_mean: Floats
    """Mean count per 10,000 of a cell; NaN for proteins."""


def as_columns(first: RawStatistics, second: RawStatistics) -> dict[str, Any]:
    """Statistics of two groups as columns, ``raw_mean1`` beside ``raw_mean2``, and so on."""
    return {
        f"{name}{group}": getattr(statistics, name)
        for name in RawStatistics._fields
        for group, statistics in ((1, first), (2, second))
    }


class RawCounts:
    """Counts of all cells, ready to be asked about groups, which are masks of cells, (cells,)."""

    def __init__(self, cells: Cells):
        self.cells = cells
        total = np.asarray(cells.rna.sum(axis=1), dtype=np.float64).ravel()
        self.scale = np.divide(_COUNTS_PER_CELL, total, out=np.zeros_like(total), where=total > 0)
        # Ones where there is a count; the structure is shared with the counts.
        ones = np.ones(cells.rna.nnz, np.float32)
        self.expressed = sp.csr_matrix((ones, cells.rna.indices, cells.rna.indptr), cells.rna.shape, copy=False)

    def mean_of_genes(self, group: npt.NDArray[np.bool_]) -> Floats:
        """Mean count of each gene in a group, (genes,)."""
        return np.asarray(self.cells.rna.T @ (group / group.sum()))

    def genes(self, group: npt.NDArray[np.bool_]) -> RawStatistics:
        """Statistics of the genes in a group."""
        weight = group / group.sum()
        return RawStatistics(
            raw_mean=self.mean_of_genes(group),
            non_zeros_proportion=self.expressed.T @ weight,
            raw_normalized_mean=self.cells.rna.T @ (weight * self.scale),
        )

    def proteins(self, group: npt.NDArray[np.bool_]) -> RawStatistics:
        """Statistics of the proteins, over the cells that have each measured; NaN where none has."""
        weight = group.astype(np.float64)
        n_measured = weight @ self.cells.measured
        n_measured[n_measured == 0] = np.nan
        counts = self.cells.protein  # 0 where not measured
        return RawStatistics(
            raw_mean=weight @ counts / n_measured,
            non_zeros_proportion=weight @ (counts > 0) / n_measured,
            raw_normalized_mean=np.full(counts.shape[1], np.nan),
        )
