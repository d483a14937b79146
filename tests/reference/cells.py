"""The few simulated cells on which the models in ``scvi/`` were trained: written once, read by the tests.

NumPy's own format without pickle; ``anndata_of`` and ``mudata_of`` put the arrays where scvi-tools expects them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

__all__ = ["BATCHES", "UNLABELED", "anndata_of", "mudata_of", "read_cells", "simulate_cells"]

N_CELLS, N_GENES, N_PROTEINS = 72, 25, 6
BATCHES = ("run_1", "run_2")
LABELS = ("B", "Monocyte", "T")
UNLABELED = "Ambiguous"  # sorts before the labels: scvi-tools then lets the last label take its place

Arrays = dict[str, npt.NDArray[Any]]


def simulate_cells(seed: int = 0) -> Arrays:
    """Draw cells of three types in two batches, with two panels, covariates and a size factor."""
    rng = np.random.default_rng(seed)
    cell_type = rng.integers(len(LABELS), size=N_CELLS)
    batch = rng.integers(len(BATCHES), size=N_CELLS)
    programs = rng.gamma(0.6, 1.0, size=(len(LABELS), N_GENES))
    capture = rng.gamma(2.0, 0.6, size=(len(BATCHES), N_GENES))
    depth = rng.lognormal(0.0, 0.5, size=N_CELLS)
    mean = 4.0 * programs[cell_type] * capture[batch] * depth[:, None]
    rna = rng.negative_binomial(2.0, 2.0 / (2.0 + mean))
    rna[:, 0] += 1  # no cell without a count
    foreground = np.eye(len(LABELS)).repeat(2, axis=1)[cell_type] * 80.0 + 4.0
    protein = rng.negative_binomial(3.0, 3.0 / (3.0 + foreground)) + 1
    panel = np.where((batch == 1) & (rng.random(N_CELLS) < 0.6), "short", "long")
    is_short, is_run_2 = panel == "short", batch == 1
    label = np.array([*LABELS, UNLABELED])[cell_type]
    label[rng.random(N_CELLS) < 0.25] = UNLABELED
    return {
        "rna": rna.astype(np.float32),
        "protein": protein.astype(np.float32),
        # Two proteins that one panel, or one batch, lacks.
        "protein_by_panel": np.where(is_short[:, None] & (np.arange(N_PROTEINS) >= 4), 0, protein).astype(np.float32),
        "protein_by_batch": np.where(is_run_2[:, None] & (np.arange(N_PROTEINS) < 2), 0, protein).astype(np.float32),
        "batch": np.array(BATCHES)[batch],
        "panel": panel,
        "cell_type": label,
        "true_type": np.array(LABELS)[cell_type],
        "sex": rng.choice(["f", "m"], size=N_CELLS),
        "site": np.full(N_CELLS, "one"),
        "donor": rng.integers(3, size=N_CELLS),
        "age": rng.normal(size=N_CELLS),
        "stress": rng.normal(size=N_CELLS),
        "size": (rna.sum(axis=1) / 50.0).astype(np.float32),
    }


def read_cells(file: Path) -> Arrays:
    """Read what `numpy.savez_compressed` wrote of `simulate_cells`."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def anndata_of(arrays: Arrays) -> AnnData:
    """Cells as an AnnData, the three protein tables in ``obsm``."""
    adata = AnnData(sp.csr_matrix(arrays["rna"]), obs=_obs(arrays))
    adata.var_names = [f"GENE{i}" for i in range(N_GENES)]
    for name in ("protein", "protein_by_panel", "protein_by_batch"):
        adata.obsm[name] = pd.DataFrame(arrays[name], index=adata.obs_names, columns=_protein_names())
    # Codes in the order of a categorical column, which need not be sorted.
    adata.obs["batch_as_given"] = pd.Categorical(adata.obs["batch"], categories=BATCHES[::-1])
    return adata


def mudata_of(arrays: Arrays) -> MuData:
    """Cells as a MuData of ``rna`` and ``prot``, with the columns in the ``obs`` of ``rna``."""
    rna = AnnData(sp.csr_matrix(arrays["rna"]), obs=_obs(arrays))
    rna.var_names = [f"GENE{i}" for i in range(N_GENES)]
    prot = AnnData(sp.csr_matrix(arrays["protein"]), obs=pd.DataFrame(index=rna.obs_names))
    prot.var_names = _protein_names()
    mdata = MuData({"rna": rna, "prot": prot})
    mdata.update()
    return mdata


def _obs(arrays: Arrays) -> pd.DataFrame:
    columns = ("batch", "panel", "cell_type", "true_type", "sex", "site", "donor", "age", "stress", "size")
    index = [f"cell_{i}" for i in range(N_CELLS)]
    return pd.DataFrame({name: arrays[name] for name in columns}, index=index).astype({"batch": object})


def _protein_names() -> list[str]:
    return [f"CD{i + 1}" for i in range(N_PROTEINS)]
