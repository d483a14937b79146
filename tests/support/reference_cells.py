"""Small references, drawn in a moment: registered cells, and the objects that users bring."""

from __future__ import annotations

from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI
from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.registration.register import register
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import read_setup

__all__ = [
    "FAST",
    "MODALITIES",
    "PROTEINS",
    "draw_adata",
    "draw_cells",
    "draw_mudata",
    "set_up",
    "set_up_mudata",
    "with_columns",
    "with_counts",
    "with_names",
    "with_obs",
    "with_proteins",
    "without_obs",
]

PROTEINS = "protein_expression"
MODALITIES = {"rna_layer": "rna", "protein_layer": "prot"}
FAST: dict[str, Any] = {"accelerator": "cpu", "progress": False}
"""How to train in a test."""


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


def draw_mudata() -> md.MuData:
    """Cells 0 to 15 have RNA, cells 5 to 19 proteins; columns sit on the RNA modality."""
    adata = draw_adata()
    table = adata.obsm[PROTEINS]
    prot = ad.AnnData(
        table.to_numpy(np.float32), obs=pd.DataFrame(index=table.index), var=pd.DataFrame(index=table.columns)
    )
    del adata.obsm[PROTEINS]
    with not_pulling():
        return md.MuData({"rna": adata[:16].copy(), "prot": prot[5:].copy()})


def set_up(adata: ad.AnnData, **options: Any) -> tuple[Registry, Cells]:
    TOTALANVI.setup_anndata(
        adata, PROTEINS, **{"batch_key": "donor", "labels_key": "kind", "unlabeled_category": "unknown", **options}
    )
    return register(adata, read_setup(adata))


def set_up_mudata(mdata: md.MuData, **options: Any) -> tuple[Registry, Cells]:
    TOTALANVI.setup_mudata(
        mdata,
        **{
            "batch_key": "donor",
            "labels_key": "kind",
            "unlabeled_category": "unknown",
            "modalities": MODALITIES,
            **options,
        },
    )
    return register(mdata, read_setup(mdata))


def with_counts(adata: ad.AnnData, value: float) -> ad.AnnData:
    adata.X = adata.X.toarray()
    adata.X[3, 2] = value
    return adata


def with_proteins(adata: ad.AnnData, value: float) -> ad.AnnData:
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].astype(float)
    adata.obsm[PROTEINS].iloc[3, 1] = value
    return adata


def with_columns(adata: ad.AnnData, names: list[str]) -> ad.AnnData:
    adata.obsm[PROTEINS].columns = names
    return adata


def with_obs(adata: ad.AnnData, **columns: Any) -> ad.AnnData:
    for name, values in columns.items():
        adata.obs[name] = values
    return adata


def without_obs(adata: ad.AnnData, name: str) -> ad.AnnData:
    del adata.obs[name]
    return adata


def with_names(adata: ad.AnnData, obs: str | None = None, var: str | None = None) -> ad.AnnData:
    """Let the second cell or gene have the name of the first."""
    if obs is not None:
        adata.obs_names = pd.Index([obs, obs, *adata.obs_names[2:]])
    if var is not None:
        adata.var_names = pd.Index([var, var, *adata.var_names[2:]])
    return adata
