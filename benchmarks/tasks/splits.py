"""How cells are cut, thinned, and shown through part of a panel."""

from __future__ import annotations

from collections.abc import Sequence

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp


def split(n_cells: int, seed: int, held_out: float = 0.2) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut cells into training and held-out ones at random, labels unseen.

    Returns
    -------
    Sorted indices of the training cells and of the held-out cells.
    """
    order = np.random.default_rng(seed).permutation(n_cells)
    n_held_out = round(held_out * n_cells)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def thinned(cells: ad.AnnData, proteins_key: str, seed: int) -> ad.AnnData:
    """Return the cells as a shallower run would count them: each molecule stays with a chance of one half."""
    rng = np.random.default_rng([seed, 1])
    shallow = cells.copy()
    counts = sp.csr_matrix(cells.X, copy=True)
    counts.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    counts.eliminate_zeros()
    shallow.X = counts
    protein = cells.obsm[proteins_key]
    drawn = rng.binomial(protein.to_numpy().astype(np.int64), 0.5)
    shallow.obsm[proteins_key] = pd.DataFrame(drawn, index=protein.index, columns=protein.columns)
    return shallow


def every_other(names: Sequence[str]) -> list[str]:
    """Return half a panel, the same half each time."""
    return list(names[::2])
