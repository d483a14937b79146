"""Raw counts of groups of cells: their mean, the share above zero, the mean of normalised counts.

Each is a product of the sparse counts with a weight per cell: neither a dense copy nor a copy of a group is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from totalanvi.training.data import Cells, StoredCells
from totalanvi.training.stored_counts import slabs

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
        total = cells.library.astype(np.float64)
        self.scale = np.divide(_COUNTS_PER_CELL, total, out=np.zeros_like(total), where=total > 0)

    def mean_of_genes(self, group: npt.NDArray[np.bool_]) -> Floats:
        """Mean count of each gene in a group, (genes,)."""
        return sum((rows.T @ weight for rows, weight, _ in self._parts(group)), np.zeros(self.cells.rna.shape[1]))

    def genes(self, group: npt.NDArray[np.bool_]) -> RawStatistics:
        """Statistics of the genes in a group."""
        raw, expressed, normalised = np.zeros((3, self.cells.rna.shape[1]))
        for rows, weight, scale in self._parts(group):
            raw += rows.T @ weight
            # Ones where there is a count; the structure is shared with the counts.
            ones = sp.csr_matrix((np.ones(rows.nnz, np.float32), rows.indices, rows.indptr), rows.shape, copy=False)
            expressed += ones.T @ weight
            normalised += rows.T @ (weight * scale)
        return RawStatistics(raw_mean=raw, non_zeros_proportion=expressed, raw_normalized_mean=normalised)

    def _parts(self, group: npt.NDArray[np.bool_]) -> Iterator[tuple[sp.csr_matrix, Floats, Floats]]:
        """Counts, weights and scales of cells, those of the group among them, in parts that fit into memory."""
        weight, scale, counts = group / group.sum(), self.scale, self.cells.rna
        if isinstance(self.cells, StoredCells):  # what weighs nothing need not be read
            weight, scale, counts = weight[group], scale[group], self.cells.rna.chosen(np.flatnonzero(group))
        start = 0
        for rows in slabs(counts):
            part = slice(start, start + rows.shape[0])
            yield rows, weight[part], scale[part]
            start = part.stop

    def proteins(self, group: npt.NDArray[np.bool_]) -> RawStatistics:
        """Statistics of the proteins, over the cells that have each measured; NaN where none has."""
        n_measured = self.cells.measured[group].sum(axis=0, dtype=np.float64)
        n_measured[n_measured == 0] = np.nan
        counts = self.cells.protein[group]  # 0 where not measured
        return RawStatistics(
            raw_mean=counts.sum(axis=0, dtype=np.float64) / n_measured,
            non_zeros_proportion=(counts > 0).sum(axis=0) / n_measured,
            raw_normalized_mean=np.full(counts.shape[1], np.nan),
        )
