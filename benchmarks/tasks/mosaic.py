"""PBMC mosaic, MuData: two batches with RNA and proteins, one with RNA only, one with proteins only."""

from __future__ import annotations

from pathlib import Path

import mudata as md
import numpy as np
import numpy.typing as npt

from tasks.layout import Keys, Task, write_case
from tasks.splits import every_other, split

KEYS = Keys(labels="celltype", proteins="adt")
RNA_ONLY_BATCH = "p1_0"
BATCHES = (RNA_ONLY_BATCH, "p3_0", "p4_0")
"""Those with RNA."""


def mosaic_unseen(folder: Path, seed: int, data: Path, case: str) -> Task:
    """Batch `case` is the query; the reference, the other three, has never seen it."""
    cells = md.read_h5mu(data / "pbmc_mosaic.h5mu")
    return _mosaic(folder, "mosaic_unseen", seed, cells, (cells.obs["batch"] == case).to_numpy())


def mosaic_seen(folder: Path, seed: int, data: Path, case: str) -> Task:
    """Half of the RNA-only batch is the query, the other half a labelled part of the reference."""
    cells = md.read_h5mu(data / "pbmc_mosaic.h5mu")
    rna_only = np.flatnonzero(cells.obs["batch"] == RNA_ONLY_BATCH)
    held_out = np.zeros(cells.n_obs, dtype=bool)
    held_out[rna_only[split(len(rna_only), seed, held_out=0.5)[1]]] = True
    return _mosaic(folder, "mosaic_seen", seed, cells, held_out)


def _mosaic(folder: Path, name: str, seed: int, cells: md.MuData, held_out: npt.NDArray[np.bool_]) -> Task:
    part = every_other(cells[KEYS.proteins].var_names)
    return write_case(folder, name, seed, KEYS, cells[~held_out].copy(), cells[held_out].copy(), part)
