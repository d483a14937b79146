"""PBMC 10k CITE-seq, one run with gated types: held-out cells as they are, as of another run, and of unseen types."""

from __future__ import annotations

from pathlib import Path

import anndata as ad

from tasks.layout import Keys, Task, write_case
from tasks.splits import split, thinned

KEYS = Keys(labels="gated_l1", proteins="protein_expression", unlabelled=("undefined", "unmatched"))
LABELS = ("B", "CD4 T", "CD8 T", "NK", "monocytes")
NINE = ("CD14", "CD16", "CD19", "CD3", "CD45RA", "CD45RO", "CD4", "CD56", "CD8a")
PART = tuple(f"{name}_TotalSeqB" for name in NINE)
"""Nine of the fourteen proteins, those a smaller panel usually has; CD127, CD15, CD25, PD-1 and TIGIT are left out."""


def pbmc10k(folder: Path, seed: int, data: Path, case: str) -> Task:
    """An 80/20 split of the cells."""
    reference, held_out = _parts(seed, data)
    return write_case(folder, "pbmc10k", seed, KEYS, reference, held_out, PART)


def pbmc10k_other_run(folder: Path, seed: int, data: Path, case: str) -> Task:
    """The same split; the held-out cells come as of another run, with half the counts and nine of the proteins."""
    reference, held_out = _parts(seed, data)
    shallow = thinned(held_out, KEYS.proteins, seed)
    shallow.obs[KEYS.batch] = "other run"
    modes, whole = ("part", "rna"), held_out.obsm[KEYS.proteins]
    return write_case(folder, "pbmc10k_other_run", seed, KEYS, reference, shallow, PART, modes, whole)


def pbmc10k_novel(folder: Path, seed: int, data: Path, case: str) -> Task:
    """The same split; the reference lacks the type `case`, the query holds all types."""
    reference, held_out = _parts(seed, data)
    known = reference[(reference.obs[KEYS.labels] != case).to_numpy()].copy()
    return write_case(folder, "pbmc10k_novel", seed, KEYS, known, held_out, PART)


def _parts(seed: int, data: Path) -> tuple[ad.AnnData, ad.AnnData]:
    cells = ad.read_h5ad(data / "pbmc10k_citeseq.h5ad")
    train, test = split(cells.n_obs, seed)
    return cells[train].copy(), cells[test].copy()
