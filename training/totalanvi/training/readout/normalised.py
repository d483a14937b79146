"""Counts as linear models like them: per 10,000, in logarithms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

__all__ = ["LIBRARY", "log_normalised", "thinned"]

LIBRARY = 1e4
"""The library that all cells are scaled to."""


def log_normalised(rna: sp.csr_matrix) -> sp.csr_matrix:
    """Return ``log(1 + 10,000 · count / library)``, as sparse as the counts.

    Parameters
    ----------
    rna
        Counts, (cells, genes).

    Returns
    -------
    scipy.sparse.csr_matrix
        (cells, genes), float32; an empty cell is all zero.

    Examples
    --------
    >>> np.expm1(log_normalised(sp.csr_matrix([[1.0, 3.0], [0.0, 0.0]])).toarray()).round().tolist()
    [[2500.0, 7500.0], [0.0, 0.0]]
    """
    library = np.maximum(np.asarray(rna.sum(axis=1), dtype=np.float64).ravel(), 1.0)
    scale = np.repeat(LIBRARY / library, np.diff(rna.indptr))
    return sp.csr_matrix((np.log1p(rna.data * scale).astype(np.float32), rna.indices, rna.indptr), shape=rna.shape)


def thinned(rna: sp.csr_matrix, share: float, rng: np.random.Generator) -> sp.csr_matrix:
    """Keep each count with a probability: cells as a shallower run would have seen them.

    Parameters
    ----------
    rna
        Counts, (cells, genes), whole numbers.
    share
        Of the counts to keep, from 0 to 1.
    rng
        Draws which.

    Returns
    -------
    scipy.sparse.csr_matrix
        Counts, (cells, genes), float32.

    Examples
    --------
    >>> thinned(sp.csr_matrix([[8.0, 0.0]]), 1.0, np.random.default_rng(0)).toarray().tolist()
    [[8.0, 0.0]]
    """
    kept: npt.NDArray[np.int64] = rng.binomial(np.rint(rna.data).astype(np.int64), share)
    counts = sp.csr_matrix((kept.astype(np.float32), rna.indices.copy(), rna.indptr.copy()), shape=rna.shape)
    counts.eliminate_zeros()
    return counts
