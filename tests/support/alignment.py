"""A small reference to align to, and queries written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from totalanvi.serving.bundles.thresholds import Thresholds
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.queries.query import Query

__all__ = ["REFERENCE", "make_query"]

REFERENCE = ReferenceFeatures(
    genes=("CD3E", "MS4A1", "NKG7", "LYZ"),
    ensembl_ids=("ENSG00000198851", "ENSG00000156738", "ENSG00000105374", None),
    proteins=("CD3", "CD19", "HLA-DR"),
    labels=("T", "B"),
    gene_share=(0.5, 0.25, 0.15, 0.1),
    gene_weight=(0.4, 0.3, 0.2, 0.1),
    thresholds=Thresholds(gene_weight_warn=0.75, gene_weight_refuse=0.25),
)


def make_query(
    rna: list[list[float]], genes: list[str], proteins: list[list[float]] | None = None, names: tuple[str, ...] = ()
) -> Query:
    counts = np.array(rna, dtype=np.float32)
    n_cells = len(counts)
    protein = np.zeros((n_cells, 0)) if proteins is None else np.array(proteins)
    return Query(
        cell_ids=pd.Index([f"c{i}" for i in range(n_cells)]),
        gene_names=tuple(genes),
        rna=sparse.csr_matrix(counts),
        rna_measured=np.ones(n_cells, dtype=bool),
        protein_names=names,
        proteins=protein.astype(np.float32),
        protein_measured=protein.any(axis=1),
    )
