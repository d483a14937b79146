"""A query: cells to be mapped, with raw counts, in the query's own feature order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Kind", "Query"]

Kind = Literal["anndata", "mudata"]


@dataclass(frozen=True, eq=False)
class Query:
    """A block of query cells with raw counts, in the query's own feature order.

    Parameters
    ----------
    cell_ids
        Names of the cells (cells,).
    gene_names
        Names of the query's genes (genes,).
    rna
        Counts (cells, genes), float32 CSR in canonical form; no entries where RNA was not measured.
    rna_measured
        Whether the cell has RNA at all (cells,); always true in an AnnData query.
    protein_names
        Names of the query's proteins (proteins,); empty when it has none.
    proteins
        Counts (cells, proteins), float32, 0 where not measured.
    protein_measured
        Whether the cell's proteins were measured (cells,).
    """

    cell_ids: pd.Index
    gene_names: tuple[str, ...]
    rna: sparse.csr_matrix
    rna_measured: npt.NDArray[np.bool_]
    protein_names: tuple[str, ...]
    proteins: npt.NDArray[np.float32]
    protein_measured: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cell_ids)

    def rows(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Query:
        """Take a part of the cells: integer positions, or a mask (cells,)."""
        if index.dtype == np.bool_ and index.all():
            return self
        return Query(
            cell_ids=self.cell_ids[index],
            gene_names=self.gene_names,
            rna=self.rna[index],
            rna_measured=self.rna_measured[index],
            protein_names=self.protein_names,
            proteins=self.proteins[index],
            protein_measured=self.protein_measured[index],
        )
