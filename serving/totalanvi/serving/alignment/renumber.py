"""Counts from a query's order of genes to the model's: few passes over what is stored, and no sorting."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from totalanvi.serving.alignment.matching import Columns

__all__ = ["TakeColumns"]


class TakeColumns:
    """Renumber the columns of counts, leaving out those that map to -1 and adding up those that map to the same.

    Parameters
    ----------
    columns
        Place of each of the query's genes in the model (query genes,), or -1.
    n_genes
        Of the model.

    Examples
    --------
    >>> counts = sparse.csr_matrix(np.array([[1, 2, 4]], dtype=np.float32))
    >>> TakeColumns(np.array([1, -1, 0]), 2)(counts).toarray()
    array([[4., 1.]], dtype=float32)
    """

    def __init__(self, columns: Columns, n_genes: int) -> None:
        kept = columns[columns >= 0]
        self._targets = columns.astype(np.int32)
        self._n_genes = n_genes
        self._all_kept = len(kept) == len(columns)
        self._in_order = bool((np.diff(kept) > 0).all())
        self._unchanged = self._all_kept and self._in_order and len(columns) == n_genes

    def __call__(self, rna: sparse.csr_matrix) -> sparse.csr_matrix:
        """Take counts (cells, query genes) to counts (cells, model genes).

        Parameters
        ----------
        rna
            Canonical: columns of a row in order, none twice.

        Returns
        -------
        scipy.sparse.csr_matrix
            Canonical; `rna` itself where nothing changes.
        """
        if self._unchanged and rna.indices.dtype == np.int32:
            return rna
        data, targets, pointers = rna.data, self._targets.take(rna.indices), rna.indptr
        if not self._all_kept:
            kept = np.flatnonzero(targets >= 0)
            # Taking by position is several times faster than by mask.
            data, targets = data.take(kept), targets.take(kept)
            pointers = np.searchsorted(kept, pointers).astype(pointers.dtype)
        aligned = sparse.csr_matrix((data, targets, pointers), shape=(rna.shape[0], self._n_genes))
        if self._in_order:
            aligned.has_canonical_format = True
            return aligned
        # By columns and back by rows: in order after as many steps as there are counts, where sorting takes more.
        aligned = aligned.tocsc().tocsr()
        aligned.sum_duplicates()
        return aligned
