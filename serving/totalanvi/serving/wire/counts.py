"""The counts in a request's columns, of which nothing is believed: see `totalanvi.serving.wire.chunks`.

They travel in as few bits as hold them: a good part of what a request costs is that its bytes are copied on their way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.wire.arrow_columns import list_arrays, row_lists

__all__ = [
    "COUNT_TYPES",
    "MAX_COUNT",
    "narrow_index",
    "narrowed",
    "read_proteins",
    "read_rna",
    "require_counts",
    "write_proteins",
]

COUNT_TYPES = (pa.float32(), pa.uint16(), pa.uint8())
"""That a column of counts may have."""

_NARROW = (np.dtype(np.uint8), np.dtype(np.uint16))
"""The narrower ones, the narrowest first."""

MAX_COUNT = 2**31
"""Counts from here on are refused: no cell has them, and float32 could not tell them from fractions."""


def narrow_index(n_genes: int) -> type[np.uint16 | np.int32]:
    """Return a type that holds the indices of so many genes."""
    return np.uint16 if n_genes <= 1 + np.iinfo(np.uint16).max else np.int32


def narrowed(counts: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    """Return counts in the fewest bits that hold all of them, or as they are, whole numbers or not.

    Examples
    --------
    >>> [narrowed(np.float32([1, most])).dtype.name for most in (255, 256, 65536, 2.5)]
    ['uint8', 'uint16', 'float32', 'float32']
    """
    for dtype in _NARROW:
        if counts.max(initial=0) <= np.iinfo(dtype).max:
            narrow = counts.astype(dtype)
            return narrow if np.array_equal(narrow, counts) else counts
    return counts


def write_proteins(cells: AlignedCells) -> pa.FixedSizeListArray:
    """Return the column ``protein_counts`` of a request; the counterpart of `read_proteins`."""
    narrow, absent = narrowed(cells.protein), ~cells.has_protein
    if narrow.dtype == np.float32:
        return row_lists(np.where(cells.measured, narrow, np.float32(np.nan)), absent=absent)
    return row_lists(narrow, absent, ~cells.measured)


def read_rna(batch: pa.RecordBatch, n_genes: int) -> sparse.csr_matrix:
    """Return the RNA counts of a request, (cells, genes), float32.

    Parameters
    ----------
    batch
        With the columns ``gene_indices`` and ``gene_counts``, of the right types.
    n_genes
        Of the reference.

    Raises
    ------
    QueryError
        When an index is none of the reference's, or indices and counts do not fit each other.
    CountsError
        When a count is no raw count.
    """
    pointers, indices = list_arrays(batch.column("gene_indices"), "gene_indices")
    count_pointers, counts = list_arrays(batch.column("gene_counts"), "gene_counts")
    if not np.array_equal(pointers, count_pointers):
        raise QueryError("gene_counts: expected as many counts as gene_indices in every cell, found others.")
    if indices.size and (indices.min() < 0 or indices.max() >= n_genes):
        raise QueryError(
            f"gene_indices: expected 0 to {n_genes - 1}, found {indices.min()} to {indices.max()}; "
            "indices refer to /v1/features."
        )
    ascends = indices[1:] > indices[:-1]
    # Where a new cell starts, its first index may be anything.
    starts = pointers[1:-1]
    ascends[starts[(starts > 0) & (starts < indices.size)] - 1] = True
    if not ascends.all():
        raise QueryError("gene_indices: expected ascending indices in every cell, none twice, found others.")
    require_counts("gene_counts", counts)
    entries = counts.astype(np.float32, copy=False), indices.astype(np.int32, copy=False)
    matrix = sparse.csr_matrix((*entries, pointers), shape=(batch.num_rows, n_genes))
    matrix.has_sorted_indices = True
    return matrix


def read_proteins(column: pa.FixedSizeListArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the protein counts of a request, and which were measured, (cells, proteins); 0 where they were not.

    Parameters
    ----------
    column
        The column ``protein_counts``: null or NaN where nothing was measured.

    Raises
    ------
    CountsError
        When a count is no raw count.
    """
    width = column.type.list_size
    flat = column.values.slice(column.offset * width, len(column) * width)
    measured = flat.is_valid().to_numpy(zero_copy_only=False) if flat.null_count else np.ones(len(flat), dtype=bool)
    given = flat.fill_null(0).to_numpy()
    if given.dtype == np.float32:
        measured &= ~np.isnan(given)
    measured = measured.reshape(len(column), width)
    if column.null_count:
        measured[column.is_null().to_numpy(zero_copy_only=False)] = False
    counts = given.reshape(measured.shape).astype(np.float32, copy=False)
    if not measured.all():
        counts = np.where(measured, counts, np.float32(0))
    require_counts("protein_counts", counts if given.dtype == np.float32 else given)
    return counts, measured


def require_counts(name: str, counts: npt.NDArray[np.number]) -> None:
    """Refuse what no raw count is.

    Raises
    ------
    CountsError
        When a value is no whole number, negative, too large or not finite.
    """
    if not counts.size or counts.dtype.kind == "u":
        return
    # Extremes first: they take a fifth of the time of comparing each, and are NaN where any count is.
    if not (counts.min() >= 0 and counts.max() < MAX_COUNT and np.array_equal(counts, np.rint(counts))):
        raise CountsError(
            f"{name}: expected raw counts (whole numbers from 0 to below 2³¹), found others; send counts as they were "
            "measured, neither normalised nor logarithms."
        )
