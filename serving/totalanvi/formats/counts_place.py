"""Which of the matrices that an AnnData holds has the raw counts: ``X``, a layer, or ``raw``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse

from totalanvi.formats.errors import FormatError

__all__ = ["Place", "computable", "find_counts", "holds_counts", "named_place"]

_N_SLABS = 16
_SLAB_CELLS = 64


@dataclass(frozen=True)
class Place:
    """One of the matrices of an AnnData, (cells, features).

    Parameters
    ----------
    kind
        ``"raw"`` has features of its own, as a rule more of them.
    layer
        Name of the layer; empty for the others.

    Examples
    --------
    >>> print(Place("X"), Place("layer", "counts"))
    X layer 'counts'
    """

    kind: Literal["X", "layer", "raw"]
    layer: str = ""

    def __str__(self) -> str:
        return f"layer {self.layer!r}" if self.kind == "layer" else self.kind


def named_place(name: str, places: Iterable[Place]) -> Place | None:
    """Find a place by the name of its layer, or as ``"X"`` or ``"raw"`` where no layer is called so; None if not there.

    Examples
    --------
    >>> print(named_place("raw", [Place("X"), Place("raw")]))
    raw
    """
    by_name = {place.layer or place.kind: place for place in sorted(places, key=lambda place: place.kind == "layer")}
    return by_name.get(name)


def computable(block: Any) -> Any:
    """Return numbers in a type that sparse matrices have: neither half precision nor another machine's byte order.

    Examples
    --------
    >>> computable(np.array([[1]], dtype=">i2")).dtype, computable(np.ones((1, 1), dtype=np.float16)).dtype
    (dtype('int16'), dtype('float32'))
    """
    native = block.dtype.newbyteorder("=")
    return block.astype(np.float32 if native == np.float16 else native, copy=False)


def find_counts(matrices: Mapping[Place, Any], of: str = "", cure: str = "--layer NAME, layer=") -> Place:
    """Return the only place that holds raw counts: whole numbers, 0 or more, not all of them 0.

    Cells from all over each matrix are looked at, not every one; whoever reads the counts checks them all. Places that
    hold the same there count as one, the first.

    Parameters
    ----------
    matrices
        Where each place's rows can be sliced, in memory or stored, (cells, features); ``X`` first. A row that is NaN
        throughout was not measured. The only place there is is not looked at.
    of
        Whose places these are, for messages, such as ``" of modality 'prot'"``.
    cure
        How to name one of the places.

    Raises
    ------
    FormatError
        When several places hold counts, or none does; it lists what each holds.

    Examples
    --------
    >>> counts = np.array([[0, 3], [1, 0]])
    >>> print(find_counts({Place("X"): np.log1p(counts), Place("raw"): counts}))
    raw
    """
    first = next(iter(matrices))
    if len(matrices) == 1:
        return first
    samples = {place: _sample(matrix) for place, matrix in matrices.items()}
    if all(_same(samples[first], sample) for sample in samples.values()):
        return first
    found = {place: _fault(sample) for place, sample in samples.items()}
    holding = [place for place, fault in found.items() if fault is None]
    if holding and all(_same(samples[holding[0]], samples[place]) for place in holding):
        return holding[0]
    listed = "; ".join(f"{place} holds {fault or 'raw counts'}" for place, fault in found.items())
    advice = (
        f"Name the one to read ({cure})" if holding else "Add the matrix from before normalisation, as a layer or as X"
    )
    raise FormatError(
        f"Expected raw counts (whole numbers, 0 or more) in exactly one place{of}; found that {listed}. {advice}."
    )


def holds_counts(matrix: Any) -> bool:
    """Tell whether a matrix (cells, features) may hold raw counts, by cells from all over it.

    Examples
    --------
    >>> holds_counts(np.array([[0, 3], [1, 0]])), holds_counts(np.array([[0.5, 3.0]]))
    (True, False)
    """
    return _fault(_sample(matrix)) is None


def _sample(matrix: Any) -> sparse.csr_matrix | str:
    """Take slabs of neighbouring cells, evenly spread, (cells, features); what stands there if that are no numbers.

    Cells that are NaN throughout, which were not measured, are left out.
    """
    if matrix.dtype.kind not in "buif":
        return "values that are no numbers"
    n_cells = int(matrix.shape[0])
    starts = np.unique(np.linspace(0, max(n_cells - _SLAB_CELLS, 0), _N_SLABS).astype(int)).tolist()
    slabs = [matrix[start : min(start + _SLAB_CELLS, n_cells)] for start in starts]
    rows = sparse.vstack([sparse.csr_matrix(computable(slab)) for slab in slabs], format="csr")
    try:
        # Before any compiled routine follows these indices: a file from a stranger may hold anything.
        rows.check_format(full_check=True)
    except ValueError as error:
        return f"a damaged sparse matrix ({error})"
    rows.sum_duplicates()
    rows.eliminate_zeros()
    missing = sparse.csr_matrix((np.isnan(rows.data), rows.indices, rows.indptr), shape=rows.shape)
    return rows[np.asarray(missing.sum(axis=1)).ravel() < max(rows.shape[1], 1)]


def _fault(sample: sparse.csr_matrix | str) -> str | None:
    """Say what a sample holds that is no raw count; None for raw counts."""
    if isinstance(sample, str):
        return sample
    values = sample.data
    with np.errstate(invalid="ignore"):
        bad = values[~((values >= 0) & (values - np.rint(values) == 0))] if values.dtype.kind != "b" else values[:0]
    if bad.size:
        return f"{bad[0]:.6g}"
    return None if values.any() else "zeros only"


def _same(one: sparse.csr_matrix | str, other: sparse.csr_matrix | str) -> bool:
    if isinstance(one, str) or isinstance(other, str) or one.shape != other.shape:
        return False
    return (
        np.array_equal(one.indptr, other.indptr)
        and np.array_equal(one.indices, other.indices)
        and np.array_equal(one.data, other.data, equal_nan=True)
    )
