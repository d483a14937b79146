"""Files of very many simulated cells, written in parts: AnnData as HDF5 or Zarr, counts by rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from anndata.io import sparse_dataset, write_elem

from speed_inputs import NON_ZERO, drawn_again, share_to_keep
from totalanvi.training import simulate

N_GENES, N_PROTEINS, N_LABELS = 4_000, 100, 20
PART = 20_000
"""Cells that are simulated; each part of a file is drawn anew from their molecules."""
SHARE_OF_PROTEIN, SHARE_LABELLED = 0.8, 0.5
LABELS, UNLABELLED, PROTEINS = "cell_type", "unlabelled", "protein_expression"


def write_cells(path: Path, n_cells: int, seed: int) -> None:
    """Write cells to a temporary name, then rename; nothing is done where they are already.

    Parameters
    ----------
    path
        Ends in ``.h5ad`` or ``.zarr``.
    n_cells
        Number of cells; no more than `PART` of them are in memory at a time, but for proteins and labels.
    seed
        The same seed gives the same cells.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"unfinished-{path.name}")
    rng = np.random.default_rng(seed)
    both = simulate(PART, N_GENES, N_PROTEINS, N_LABELS, n_batches=2, seed=seed)
    base, protein = sp.csr_matrix(both["rna"].X), both["prot"].X.toarray().astype(np.int64)
    kept = share_to_keep(base, NON_ZERO)
    root: Any = h5py.File(temporary, "w") if path.suffix == ".h5ad" else zarr.open_group(temporary, mode="w")
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    kinds, batches, proteins = [], [], []
    for start in range(0, n_cells, PART):
        drawn = rng.permutation(PART)[: n_cells - start]
        counts = drawn_again(base[drawn], kept, rng)
        if start == 0:
            write_elem(root, "X", counts)
        else:
            sparse_dataset(root["X"]).append(counts)
        proteins.append(rng.binomial(protein[drawn], SHARE_OF_PROTEIN).astype(np.float32))
        kinds.append(both["rna"].obs["cell_type"].astype(str).to_numpy()[drawn])
        batches.append(both["rna"].obs["batch"].astype(str).to_numpy()[drawn])
    names = pd.Index([f"cell{number}" for number in range(n_cells)])
    kind = np.concatenate(kinds)
    known = rng.random(n_cells) < SHARE_LABELLED
    obs = {LABELS: pd.Categorical(np.where(known, kind, UNLABELLED)), "batch": pd.Categorical(np.concatenate(batches))}
    write_elem(root, "obs", pd.DataFrame({**obs, "true_type": pd.Categorical(kind)}, index=names))
    write_elem(root, "var", both["rna"].var[[]])
    frame = pd.DataFrame(np.concatenate(proteins), index=names, columns=both["prot"].var_names, copy=False)
    write_elem(root, "obsm", {PROTEINS: frame})
    for name in ("layers", "obsp", "uns", "varm", "varp"):
        write_elem(root, name, {})
    if path.suffix == ".h5ad":
        root.close()
    temporary.rename(path)
