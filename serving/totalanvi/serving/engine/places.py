"""Where stored counts go in whole rows of genes that lie one behind the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.engine.compiled import compiled, given, room

__all__ = ["compiled_places", "place"]

Counts = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]
Lend = Callable[[int], tuple[Places, Counts]]


def _own(n_stored: int) -> tuple[Places, Counts]:
    return np.empty(n_stored, dtype=np.int32), np.empty(n_stored, dtype=np.float32)


def place(rna: sparse.csr_matrix, rows: slice, lend: Lend = _own) -> tuple[Places, Counts]:
    """Say where the counts of some rows go, and copy them beside it.

    Parameters
    ----------
    rna
        Counts (cells, genes), float32.
    rows
        Cells; these times genes are fewer than 2³¹.
    lend
        Makes room for so many counts; a second time, it may be the same.

    Returns
    -------
    ``row * genes + gene`` and the count, for each count that is stored, in any order: each place once.
    """
    pointers = rna.indptr[rows.start : rows.stop + 1].astype(np.int64)
    stored = slice(pointers[0], pointers[-1])
    genes = np.require(rna.indices[stored], np.int32, ["C", "A"])
    counts = np.require(rna.data[stored], np.float32, ["C", "A"])
    places, copied = lend(len(genes))
    rises = np.ones(1, dtype=np.bool_)
    compiled_places()(pointers - pointers[0], genes, counts, np.array(rna.shape[1:]), places, copied, rises)
    if rises[0]:
        return places, copied
    # A gene that is stored twice goes to one place, where its counts would not add up.
    part = rna[rows].copy()
    part.sum_duplicates()
    return place(part, slice(0, part.shape[0]), lend)


def compiled_places() -> Callable[..., None]:
    """Return the loop over stored counts, compiled."""
    return compiled(
        _place,
        given("int64", 1),
        given("int32", 1),
        given("float32", 1),
        given("int64", 1),
        room("int32", 1),
        room("float32", 1),
        room("boolean", 1),
    )


def _place(
    pointers: npt.NDArray[np.int64],
    genes: npt.NDArray[np.int32],
    counts: Counts,
    n_genes: npt.NDArray[np.int64],
    places: Places,
    copied: Counts,
    rises: npt.NDArray[np.bool_],
) -> None:
    """Fill ``places`` and ``copied``; unset ``rises`` where genes are not in order. Compiled by numba."""
    for row in range(len(pointers) - 1):
        start, last = row * n_genes[0], -1
        for k in range(pointers[row], pointers[row + 1]):
            gene = genes[k]
            if gene <= last:
                rises[0] = False
            last = gene
            places[k] = start + gene
            copied[k] = counts[k]
