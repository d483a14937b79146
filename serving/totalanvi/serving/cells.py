"""Cells in the model's terms: what alignment hands to the engine, in process or over the wire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.errors import CountsError, QueryError

__all__ = ["AlignedCells"]


@dataclass(frozen=True, eq=False)
class AlignedCells:
    """Cells whose features stand in the model's order.

    Construction verifies the whole, the CSR structure included: the engine scatters these indices into dense blocks
    without looking at them again.

    Parameters
    ----------
    rna
        Counts (cells, genes), float32 CSR. A gene that the query lacks has no entries.
    library
        Total count of each cell over the model's genes, divided by the query's gene coverage, (cells,), float32.
    protein
        Counts (cells, proteins), float32, 0 where not measured.
    measured
        Which protein was measured in which cell, (cells, proteins), bool.

    present
        Which genes the query has, (genes,), bool; None when it has all. A gene that it lacks is unknown in each of its
        cells, not absent from them.

    Raises
    ------
    QueryError
        When shapes, dtypes or the CSR structure are not as above.
    CountsError
        When a value is negative, NaN or infinite, or a protein that was not measured has a count.

    Examples
    --------
    >>> cells = AlignedCells(
    ...     rna=sparse.csr_matrix(np.eye(3, dtype=np.float32)),
    ...     library=np.ones(3, dtype=np.float32),
    ...     protein=np.zeros((3, 2), dtype=np.float32),
    ...     measured=np.zeros((3, 2), dtype=bool),
    ... )
    >>> len(cells.rows(slice(0, 2)))
    2
    """

    rna: sparse.csr_matrix
    library: npt.NDArray[np.float32]
    protein: npt.NDArray[np.float32]
    measured: npt.NDArray[np.bool_]
    present: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rna, sparse.csr_matrix):
            raise QueryError(f"rna: expected a scipy csr_matrix (cells, genes), found {type(self.rna).__name__}.")
        n_cells = self.rna.shape[0]
        _require("rna", self.rna.data, self.rna.data.shape, np.float32)
        _require("library", self.library, (n_cells,), np.float32)
        if self.protein.ndim != 2:
            raise QueryError(f"protein: expected shape ({n_cells}, proteins), found {self.protein.shape}.")
        _require("protein", self.protein, (n_cells, self.protein.shape[1]), np.float32)
        _require("measured", self.measured, self.protein.shape, np.bool_)
        if self.present is not None:
            _require("present", self.present, (self.rna.shape[1],), np.bool_)
        _require_structure(self.rna)
        for name, values in (("rna", self.rna.data), ("library", self.library), ("protein", self.protein)):
            _require_counts(name, values)
        if not self.measured.all() and np.any(self.protein[~self.measured]):
            raise CountsError("protein: expected 0 where `measured` is false, found a count; set either of the two.")

    def __len__(self) -> int:
        return int(self.rna.shape[0])

    @property
    def n_genes(self) -> int:
        """Number of the model's genes."""
        return int(self.rna.shape[1])

    @property
    def n_proteins(self) -> int:
        """Number of the model's proteins."""
        return int(self.protein.shape[1])

    @property
    def has_protein(self) -> npt.NDArray[np.bool_]:
        """Whether any protein was measured, (cells,)."""
        return np.asarray(self.measured.any(axis=1))

    @property
    def has_one_panel(self) -> bool:
        """Whether the same proteins were measured in all cells, of which there is one at least."""
        return len(self) > 0 and bool((self.measured == self.measured[0]).all())

    def rows(self, index: slice | npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> AlignedCells:
        """Take a part of the cells.

        Parameters
        ----------
        index
            A slice, integer positions, or a mask (cells,).
        """
        return AlignedCells(
            self.rna[index], self.library[index], self.protein[index], self.measured[index], self.present
        )


def _require(name: str, array: npt.NDArray[np.generic], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise QueryError(
            f"{name}: expected {np.dtype(dtype)} of shape {shape}, found {array.dtype} of shape {array.shape}."
        )


def _require_structure(rna: sparse.csr_matrix) -> None:
    pointers, indices = rna.indptr, rna.indices
    if pointers.shape != (rna.shape[0] + 1,) or pointers[0] != 0 or np.any(np.diff(pointers) < 0):
        raise QueryError("rna: expected CSR row pointers that start at 0 and never fall, found others.")
    if pointers[-1] != indices.size or indices.size != rna.data.size:
        raise QueryError(
            f"rna: expected as many CSR indices and values as the row pointers say ({pointers[-1]}), "
            f"found {indices.size} and {rna.data.size}."
        )
    if indices.size and (indices.min() < 0 or indices.max() >= rna.shape[1]):
        raise QueryError(
            f"rna: expected gene indices from 0 to {rna.shape[1] - 1}, found {indices.min()} to {indices.max()}."
        )


def _require_counts(name: str, values: npt.NDArray[np.float32]) -> None:
    # Extremes are NaN where any value is, and NaN fails the comparison as well.
    if values.size and not (values.min() >= 0 and values.max() < np.inf):
        bad = values[~((values >= 0) & (values < np.inf))]
        raise CountsError(f"{name}: expected finite counts of at least 0, found {bad.flat[0]}; pass raw counts.")
