"""Small references, drawn in a moment: registered cells, and the objects that users bring."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from totalanvi.training.data import UNLABELLED, Cells

__all__ = ["draw_adata", "draw_cells"]


def draw_cells(
    n_cells: int = 12,
    n_genes: int = 9,
    n_proteins: int = 4,
    n_batches: int = 2,
    n_labels: int = 3,
    unlabelled: float = 0.5,
    without_proteins: float = 0.25,
    seed: int = 0,
) -> Cells:
    """Registered cells with counts that mean nothing: every code occurs, some cells lack labels, some lack proteins."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.0, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 0.5)
    measured = np.repeat((rng.random(n_cells) >= without_proteins)[:, None], n_proteins, axis=1)
    measured[1::3, 0] = False
    protein = rng.poisson(20.0, (n_cells, n_proteins)) * measured
    batch = rng.permutation(np.arange(n_cells) % n_batches)
    label = rng.permutation(np.arange(n_cells) % n_labels)
    label[rng.random(n_cells) < unlabelled] = UNLABELLED
    return Cells(
        rna=sp.csr_matrix(counts.astype(np.float32)),
        protein=protein.astype(np.float32),
        measured=measured,
        batch=batch,
        panel=batch.copy(),
        label=label,
    )


def draw_adata(n_cells: int = 20, n_genes: int = 6, proteins: tuple[str, ...] = ("CD3", "CD4", "CD8")) -> ad.AnnData:
    """Cells by genes with proteins, two batches, and three cell types of which one means "unknown"."""
    rng = np.random.default_rng(1)
    obs: dict[str, Any] = {
        "kind": ["B", "T", "unknown", "T"] * (n_cells // 4),
        "donor": ["one", "two"] * (n_cells // 2),
    }
    names: npt.NDArray[Any] = np.array([f"cell{i}" for i in range(n_cells)])
    adata = ad.AnnData(
        sp.csr_matrix(rng.poisson(2.0, (n_cells, n_genes)).astype(np.float32)),
        obs=pd.DataFrame(obs, index=names),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)]),
    )
    adata.obsm["protein_expression"] = pd.DataFrame(
        rng.poisson(30.0, (n_cells, len(proteins))), index=names, columns=list(proteins)
    )
    return adata
