"""Sparse rows through a first layer, at a cost per stored count."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.bundles.first_layer import FirstLayer
from totalanvi.serving.bundles.sixteen_bits import is_bfloat16
from totalanvi.serving.engine.aligned import aligned, aligned_room
from totalanvi.serving.engine.compiled import compiled, given, room
from totalanvi.serving.engine.paired_columns import in_pairs
from totalanvi.serving.engine.row_sums import COLUMNS, summing_rows

__all__ = ["Rows", "SparseLayer", "compiled_product"]

_NARROW, _WIDE = 4, 8
"""Registers of a strip of columns. Columns are padded to whole narrow ones; as many as fit are wide ones, which read
rows with fewer interruptions."""

_TILE_BYTES = 1 << 19
"""Of weights whose rows all cells of a block read before the next ones are looked at: they stay in the second-level
cache, of which they need not be all. Half as many again were slower by a thirtieth."""

_MOST_TERMS = 64
"""That are added up in single precision: a cell has fewer of them in a tile, unless most of its genes have counts."""

_SKIPPED = 8
"""Counts of a cell that are passed at a time where the end of a tile is sought."""

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
        n_genes, self.n_columns = layer.weight.shape
        n_padded = self.n_columns + -self.n_columns % (_NARROW * COLUMNS)
        # Not a second copy of what needs neither padding nor pairs.
        lacks_columns = n_padded > self.n_columns
        weight = np.pad(layer.weight, ((0, 0), (0, n_padded - self.n_columns))) if lacks_columns else layer.weight
        paired = is_bfloat16(layer.weight)
        self._weight = aligned(in_pairs(weight)) if paired else aligned(weight)
        self._tile = np.array([max(_TILE_BYTES // self._weight[:1].nbytes, 1)])
        self._start = np.zeros(n_padded)
        self._start[: self.n_columns] = layer.offset - self._centred(np.ones(n_genes, dtype=bool))
        self._product = compiled_product(paired=paired)

    def start(self, present: npt.NDArray[np.bool_] | None) -> Doubles:
        """Return what a cell without any count comes to, (columns, padded): once for a query.

        A gene that the query lacks adds nothing, as if each of its cells had the gene's centre.

        Parameters
        ----------
        present
            Which genes the query has, (genes,); None for all.
        """
        if present is None:
            return self._start
        start = self._start.copy()
        start[: self.n_columns] += self._centred(~present)
        return start

    def apply(self, rows: Rows, library: Floats, start: Doubles, out: Floats) -> None:
        """Compute cells; it may be called from several threads.

        A cell's terms are added up in the order of its genes, a few dozen at a time, and these sums in double
        precision: the result depends on nothing else, and large terms that cancel do not leave their rounding.

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
        total = aligned_room((len(out), len(start)), np.float64)
        at = np.empty(len(out), dtype=np.int64)
        self._product(rows.pointers, rows.genes, values, self._weight, start, self._tile, at, total, out)

    def _centred(self, genes: npt.NDArray[np.bool_]) -> Doubles:
        """Add up the centres of some genes as the layer sees them, (columns,)."""
        genes = genes & (self._layer.centre != 0)  # an encoder has no others
        weight = self._layer.weight[genes].astype(np.float64)
        return np.asarray(self._layer.centre[genes].astype(np.float64) @ weight)


def compiled_product(*, paired: bool = False) -> Callable[..., None]:
    """Return the sum over a cell's counts, compiled, for weights in pairs of columns or one by one."""
    return compiled(
        _product,
        given("int64", 1),
        given("int32", 1),
        given("float32", 1),
        given("uint32" if paired else "float32", 2),
        given("float64", 1),
        given("int64", 1),
        room("int64", 1),
        room("float64", 2),
        room("float32", 2),
        made=True,
    )


def _product() -> Callable[..., None]:
    add_wide, add_narrow = summing_rows(_WIDE), summing_rows(_NARROW)
    wide, most, far = _WIDE * COLUMNS, _MOST_TERMS, _SKIPPED

    def product(
        pointers: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int32],
        values: Floats,
        weight: npt.NDArray[np.float32 | np.uint32],
        start: Doubles,
        tile: npt.NDArray[np.int64],
        at: npt.NDArray[np.int64],
        total: Doubles,
        out: Floats,
    ) -> None:
        """Set ``out[row]`` to ``start + Σ value · weight[index]``, rounded from ``total``; compiled by numba.

        All rows go through a tile of indices before the next one; ``at`` is room for where they are.
        """
        n_rows, n_columns = total.shape
        for row in range(n_rows):
            at[row] = pointers[row]
            for j in range(n_columns):
                total[row, j] = start[j]
        for beyond in range(tile[0], weight.shape[0] + tile[0], tile[0]):
            for row in range(n_rows):
                k, end, last = at[row], at[row], pointers[row + 1]
                while end + far <= last and indices[end + far - 1] < beyond:
                    end += far
                while end < last and indices[end] < beyond:
                    end += 1
                at[row] = end
                while k < end:
                    stop, column = k + most if k + most < end else end, 0
                    while column + wide <= n_columns:
                        add_wide(indices, values, k, stop, weight, column, total, row)
                        column += wide
                    if column < n_columns:
                        add_narrow(indices, values, k, stop, weight, column, total, row)
                    k = stop
        for row in range(n_rows):
            for j in range(out.shape[1]):
                out[row, j] = total[row, j]

    return product
