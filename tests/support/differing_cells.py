"""Two groups of cells that differ by known fold changes in known genes and proteins, and in their batches."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from tests.support.reference_cells import PROTEINS

__all__ = ["draw_differing_cells"]

_N_UP = 15
"""Genes that are higher in group B; as many are lower."""
_N_SILENT = 20
_N_PROTEINS_UP = 5


def draw_differing_cells(n_cells: int = 500, n_genes: int = 150, n_proteins: int = 24, seed: int = 0) -> ad.AnnData:
    """Groups "A" and "B" in ``obs["group"]``, which hold 30 % and 70 % of cells from batch "two".

    The first genes and proteins are higher in B, as many after them lower, by a log2 fold change of 1 to 2.5; what the
    ones gain, the others lose, so that no other gene's share of transcripts changes. The last genes are hardly ever
    seen, the last proteins are background alone. Batches shift every gene and protein.

    Returns
    -------
    AnnData
        ``var["lfc"]``: log2 fold change of the share of transcripts, B against A, in either batch.
        ``uns["protein_lfc"]``: that of the foreground of each protein, 0 without foreground.
    """
    rng = np.random.default_rng(seed)
    in_b = rng.permutation(np.arange(n_cells) % 2)[:, None]
    in_two = (rng.random((n_cells, 1)) < np.where(in_b, 0.7, 0.3)).astype(int)

    lfc = _changes(rng, n_genes, _N_UP)
    abundance = rng.normal(0.0, 1.3, n_genes)
    abundance[_N_UP : 2 * _N_UP] = abundance[:_N_UP] + lfc[:_N_UP]
    abundance[-_N_SILENT:] = -9.0
    state = rng.normal(size=(n_cells, 1)) * rng.normal(0.0, 0.3, n_genes) * (rng.random(n_genes) < 0.3)
    log_share = abundance + in_b * lfc + in_two * rng.normal(0.0, 0.7, n_genes)
    library = rng.lognormal(np.log(800.0), 0.3, (n_cells, 1))
    rna = _negative_binomial(rng, library * _shares(log_share + state), 5.0)

    protein_lfc = _changes(rng, n_proteins, _N_PROTEINS_UP)
    foreground = np.exp(rng.uniform(np.log(50.0), np.log(400.0), n_proteins)) * 2.0 ** (in_b * protein_lfc)
    foreground[:, -n_proteins // 4 :] = 0.0
    background = np.exp(rng.normal(np.log(8.0), 0.5, n_proteins))
    efficiency = 2.0 ** (in_two * rng.normal(0.0, 0.5, n_proteins)) * rng.lognormal(0.0, 0.2, (n_cells, 1))
    protein = _negative_binomial(rng, efficiency * (foreground + background), 10.0)

    obs = {"group": np.array(["A", "B"])[in_b.ravel()], "batch": np.array(["one", "two"])[in_two.ravel()]}
    names = [f"cell{i}" for i in range(n_cells)]
    adata = ad.AnnData(
        sp.csr_matrix(rna),
        obs=pd.DataFrame(obs, index=names),
        var=pd.DataFrame({"lfc": lfc}, index=[f"gene{i}" for i in range(n_genes)]),
        uns={"protein_lfc": protein_lfc},
    )
    adata.obsm[PROTEINS] = pd.DataFrame(protein, index=names, columns=[f"P{i}" for i in range(n_proteins)])
    return adata


def _changes(rng: np.random.Generator, n: int, n_up: int) -> np.ndarray:
    lfc = np.zeros(n)
    lfc[:n_up] = rng.uniform(1.0, 2.5, n_up)
    lfc[n_up : 2 * n_up] = -lfc[:n_up]
    return lfc


def _shares(log2: np.ndarray) -> np.ndarray:
    value = 2.0**log2
    return value / value.sum(axis=-1, keepdims=True)


def _negative_binomial(rng: np.random.Generator, mean: np.ndarray, inverse_dispersion: float) -> np.ndarray:
    return rng.poisson(rng.gamma(inverse_dispersion, mean / inverse_dispersion)).astype(np.float32)
