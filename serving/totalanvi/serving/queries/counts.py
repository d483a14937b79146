"""Raw counts are a contract: whole numbers, 0 or more, finite. Anything else is refused, never guessed at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.formats.counts_place import computable
from totalanvi.serving.errors import CountsError
from totalanvi.serving.queries.matrices import require_structure

__all__ = ["protein_counts", "rna_counts"]

_MOST = 2**53
"""Beyond it, double precision no longer has every whole number, and single precision may have no such number at all."""

_WINDOW = 1 << 15
"""Values that are looked at together: they stay in a core's cache from one look to the next."""


def rna_counts(block: Any, cells: pd.Index, genes: Sequence[str], where: str, cure: str) -> sparse.csr_matrix:
    """Check a block of RNA counts and bring it into canonical form.

    Parameters
    ----------
    block
        Counts (cells, genes), dense or CSR, of any numeric type; left as it is.
    cells, genes
        Names of the block's rows and columns.
    where
        Names the matrix in messages, such as ``"layer 'counts'"``.
    cure
        What the reader of a message can do about it.

    Returns
    -------
    scipy.sparse.csr_matrix
        (cells, genes), float32; indices sorted, no duplicate entries, no stored zeros. Not to be written into: what was
        so already is not copied.

    Raises
    ------
    CountsError
        Naming the first value that is no number, infinite, negative, fractional or beyond 2⁵³, with its cell and gene.
    QueryError
        When the sparse structure is damaged.
    """
    if block.dtype.kind not in "buif":
        raise CountsError(
            f"Expected raw counts (whole numbers, 0 or more) in {where}; found values of type {block.dtype}. {cure}"
        )
    csr = sparse.csr_matrix(computable(block))
    # Before any compiled routine follows these indices: a file from a stranger may hold anything.
    require_structure(csr, where)
    _require_counts(csr, cells, genes, where, cure)
    canonical = csr.astype(np.float32, copy=False)
    if not canonical.has_canonical_format or not canonical.data.all():
        canonical = canonical.copy()
        canonical.sum_duplicates()
        canonical.eliminate_zeros()
    return canonical


def protein_counts(
    block: Any, cells: pd.Index, proteins: Sequence[str], where: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Check a block of protein counts and tell which cells were measured.

    A cell whose proteins are all 0 or all NaN was not measured. This is decided cell by cell, never for the whole
    query: what becomes of a cell must not depend on the others.

    Parameters
    ----------
    block
        Counts (cells, proteins), dense or sparse, of any numeric type; NaN in a whole row means not measured.
    cells, proteins
        Names of the block's rows and columns.
    where
        Names the block in messages, such as ``"obsm 'protein_expression'"``.

    Returns
    -------
    counts, measured
        Float32 (cells, proteins), 0 in cells that were not measured; bool (cells,).

    Raises
    ------
    CountsError
        Naming the first value that is no raw count, or a cell of which only some proteins are NaN.
    QueryError
        When the sparse structure is damaged.
    """
    cure = "Give raw protein counts, or map without proteins (proteins='none', --proteins none)."
    if sparse.issparse(block):
        require_structure(block, where)
    if block.dtype.kind == "c":
        raise CountsError(f"Expected raw counts (whole numbers, 0 or more) in {where}; found complex numbers. {cure}")
    try:
        dense = np.array(block.toarray() if sparse.issparse(block) else block, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CountsError(
            f"Expected raw counts (whole numbers, 0 or more) in {where}; found values that are no numbers ({error}). "
            f"{cure}"
        ) from error
    missing = np.isnan(dense)
    absent = missing.all(axis=1)
    if (partly := missing.any(axis=1) & ~absent).any():
        cell = int(np.flatnonzero(partly)[0])
        names = [str(proteins[column]) for column in np.flatnonzero(missing[cell])[:5]]
        raise CountsError(
            f"Expected each cell's proteins in {where} to be all measured or all missing; found NaN in cell "
            f"{str(cells[cell])!r} for {names} only. Drop those proteins, or set all of the cell's proteins to NaN."
        )
    dense[absent] = 0
    _require_counts(sparse.csr_matrix(dense), cells, proteins, where, cure)
    return dense.astype(np.float32), np.asarray((dense != 0).any(axis=1))


def _require_counts(csr: sparse.csr_matrix, cells: pd.Index, features: Sequence[str], where: str, cure: str) -> None:
    values = csr.data
    starts = range(0, values.size, _WINDOW)
    damaged = next((start for start in starts if not _all_counts(values[start : start + _WINDOW])), None)
    if damaged is None:
        return
    entry = next(entry for entry in range(damaged, values.size) if not _all_counts(values[entry : entry + 1]))
    row = int(np.searchsorted(csr.indptr, entry, side="right")) - 1
    value = values[entry]
    raise CountsError(
        f"Expected raw counts (whole numbers, 0 or more) in {where}; found {value:.6g}, which is {_fault(value)}, "
        f"in cell {str(cells[row])!r}, feature {str(features[int(csr.indices[entry])])!r}. {cure}"
    )


def _all_counts(values: npt.NDArray[np.generic]) -> bool:
    """Tell whether values, of which there is one at least, are whole, 0 or more, and can be counted."""
    if values.dtype.kind == "b":
        return True
    # NaN fails the first comparison, infinity the second.
    in_range = bool(values.min() >= 0 and values.max() <= _MOST)
    return in_range and (values.dtype.kind != "f" or bool((np.rint(values) == values).all()))


def _fault(value: Any) -> str:
    if np.isnan(value):
        return "not a number"
    if np.isinf(value):
        return "infinite"
    if value > _MOST:
        return "more than can be counted"
    return "negative" if value < 0 else "not whole"
