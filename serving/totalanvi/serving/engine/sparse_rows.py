"""Sparse rows through a first layer, at a cost per stored count."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.bundles.first_layer import FirstLayer
from totalanvi.serving.engine.compiled import compiled, given, room

__all__ = ["Rows", "SparseLayer", "compiled_product"]

_LANES = 16
"""Columns are padded to a multiple of this many: one register of single precision numbers, on today's widest CPUs."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Some cells' stored counts, each gene of a cell once, in the order of genes."""

    pointers: npt.NDArray[np.int64]
    """Where each cell's counts begin, and where the last one's end, (cells + 1,)."""
    genes: npt.NDArray[np.int32]
    counts: Floats

    @classmethod
    def of(cls, rna: sparse.csr_matrix, rows: slice) -> Rows:
        """Take cells of a CSR matrix, without a copy where its rows are in order."""
        pointers = rna.indptr[rows.start : rows.stop + 1].astype(np.int64)
        stored = slice(pointers[0], pointers[-1])
        genes = np.require(rna.indices[stored], np.int32, ["C", "A"])
        pointers -= pointers[0]
        falls = genes[1:] <= genes[:-1]
        # From one cell to the next, genes may begin anew.
        between = pointers[(pointers > 0) & (pointers < len(genes))]
        falls[between - 1] = False
        if not falls.any():
            return cls(pointers, genes, rna.data[stored])
        # A gene that is stored twice has one logarithm, of the sum.
        part = rna[rows].copy()
        part.sum_duplicates()
        return cls.of(part, slice(0, part.shape[0]))


class SparseLayer:
    """A first layer, ready to compute.

    Parameters
    ----------
    layer
        Its arrays.
    """

    def __init__(self, layer: FirstLayer) -> None:
        self._layer = layer
        self.n_columns = layer.weight.shape[1]
        n_lacking = -self.n_columns % _LANES
        # Not a second copy of what needs no padding.
        padded = np.pad(layer.weight, ((0, 0), (0, n_lacking))) if n_lacking else layer.weight
        self._weight = np.ascontiguousarray(padded)
        offset = np.pad(layer.offset.astype(np.float64), (0, n_lacking))
        self._start = offset - self._centred(np.ones(len(layer.centre), dtype=bool))
        self._product = compiled_product()

    def start(self, present: npt.NDArray[np.bool_] | None) -> Doubles:
        """Return what a cell without any count comes to, (columns, padded): once for a query.

        A gene that the query lacks adds nothing, as if each of its cells had the gene's centre.

        Parameters
        ----------
        present
            Which genes the query has, (genes,); None for all.
        """
        return self._start if present is None else self._start + self._centred(~present)

    def apply(self, rows: Rows, library: Floats, start: Doubles, out: Floats) -> None:
        """Compute cells; it may be called from several threads.

        A cell's terms are added up in the order of its genes, eight at a time, and these sums in double precision: the
        result depends on nothing else, and large terms that cancel do not leave their rounding.

        Parameters
        ----------
        rows
            Counts of the cells.
        library
            Their totals, (cells,).
        start
            Of the query.
        out
            Where their results go, (cells, columns).
        """
        # What overflows is infinite, as in the graph, and refused by whoever looks at the results.
        with np.errstate(over="ignore"):
            scale = self._layer.scale(library, len(self._weight))
            values = np.repeat(scale, np.diff(rows.pointers))
            values *= rows.counts
        np.log1p(values, out=values)
        self._product(rows.pointers, rows.genes, values, self._weight, start, out)

    def _centred(self, genes: npt.NDArray[np.bool_]) -> Doubles:
        """Add up the centres of some genes as the layer sees them, (columns, padded)."""
        genes = genes & (self._layer.centre != 0)  # an encoder has no others
        return np.asarray(self._layer.centre[genes].astype(np.float64) @ self._weight[genes].astype(np.float64))


def compiled_product() -> Callable[..., None]:
    """Return the sum over a cell's counts, compiled."""
    return compiled(
        _product,
        given("int64", 1),
        given("int32", 1),
        given("float32", 1),
        given("float32", 2),
        given("float64", 1),
        room("float32", 2),
    )


def _product(
    pointers: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    values: Floats,
    weight: Floats,
    start: Doubles,
    out: Floats,
) -> None:
    """Set ``out[row]`` to ``start + Σ value · weight[index]``; compiled by numba, with the columns in the lanes.

    Eight terms at a time, so that the sums of a row are loaded and stored an eighth as often.
    """
    total = np.empty(weight.shape[1], np.float64)
    for row in range(out.shape[0]):
        for j in range(weight.shape[1]):
            total[j] = start[j]
        k, end = pointers[row], pointers[row + 1]
        while k + 8 <= end:
            i0, i1, i2, i3 = indices[k], indices[k + 1], indices[k + 2], indices[k + 3]
            i4, i5, i6, i7 = indices[k + 4], indices[k + 5], indices[k + 6], indices[k + 7]
            v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
            v4, v5, v6, v7 = values[k + 4], values[k + 5], values[k + 6], values[k + 7]
            for j in range(weight.shape[1]):
                first = (v0 * weight[i0, j] + v1 * weight[i1, j]) + (v2 * weight[i2, j] + v3 * weight[i3, j])
                second = (v4 * weight[i4, j] + v5 * weight[i5, j]) + (v6 * weight[i6, j] + v7 * weight[i7, j])
                total[j] += first + second
            k += 8
        while k < end:
            i0, v0 = indices[k], values[k]
            for j in range(weight.shape[1]):
                total[j] += v0 * weight[i0, j]
            k += 1
        for j in range(out.shape[1]):
            out[row, j] = total[j]
