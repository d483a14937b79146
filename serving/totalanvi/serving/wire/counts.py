"""The counts in a request's columns, of which nothing is believed: see `totalanvi.serving.wire.chunks`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.wire.arrow_columns import list_arrays

__all__ = ["MAX_COUNT", "read_proteins", "read_rna", "require_counts"]

MAX_COUNT = 2**31
"""Counts from here on are refused: no cell has them, and float32 could not tell them from fractions."""


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
    matrix = sparse.csr_matrix((counts, indices, pointers), shape=(batch.num_rows, n_genes))
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
    # An Arrow null inside a row reads as NaN, which has the same meaning.
    flat = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
    counts = flat.reshape(len(column), width)
    measured = ~np.isnan(counts)
    measured[column.is_null().to_numpy(zero_copy_only=False)] = False
    counts = np.where(measured, counts, np.float32(0))
    require_counts("protein_counts", counts)
    return counts, measured


def require_counts(name: str, counts: npt.NDArray[np.float32]) -> None:
    """Refuse what no raw count is.

    Raises
    ------
    CountsError
        When a value is no whole number, negative, too large or not finite.
    """
    if not counts.size:
        return
    # Extremes first: they take a fifth of the time of comparing each, and are NaN where any count is.
    if not (counts.min() >= 0 and counts.max() < MAX_COUNT and np.array_equal(counts, np.rint(counts))):
        raise CountsError(
            f"{name}: expected raw counts (whole numbers from 0 to below 2³¹), found others; send counts as they were "
            "measured, neither normalised nor logarithms."
        )
