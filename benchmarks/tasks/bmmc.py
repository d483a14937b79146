"""Bone marrow, two donors of one site, 41 fine types in 600 cells: what little data can do."""

from __future__ import annotations

from pathlib import Path

import anndata as ad

from tasks.layout import Keys, Task, write_case
from tasks.splits import every_other

KEYS = Keys(labels="cell_type", proteins="protein_expression")
DONORS = ("s1d1", "s1d2")


def bmmc(folder: Path, seed: int, data: Path, case: str) -> Task:
    """Donor `case` is the query, the other the reference; types that it lacks are novel, the seed moves no cell."""
    cells = ad.read_h5ad(data / "bmmc_citeseq_small.h5ad")
    held_out = (cells.obs[KEYS.batch] == case).to_numpy()
    part = every_other(cells.obsm[KEYS.proteins].columns)
    return write_case(folder, "bmmc", seed, KEYS, cells[~held_out].copy(), cells[held_out].copy(), part)
