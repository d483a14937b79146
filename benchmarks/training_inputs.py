"""What training is timed on: simulated cells, half of them labelled, with as many counts of zero as real ones have."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from speed_inputs import NON_ZERO, thinned
from totalanvi.training import simulate

N_GENES, N_PROTEINS, N_LABELS = 4_000, 100, 20
SIZES = {"genes": N_GENES, "proteins": N_PROTEINS, "labels": N_LABELS, "density": NON_ZERO}
SHARE_LABELLED = 0.5
UNLABELLED = "unlabelled"


def draw_cells(n_cells: int, seed: int, n_labels: int = N_LABELS) -> ad.AnnData:
    """Simulate cells; more labels than the tissue has types are drawn at random, since only their number matters."""
    rng = np.random.default_rng(seed)
    both = simulate(n_cells, N_GENES, N_PROTEINS, N_LABELS, n_batches=2, seed=seed)
    rna, protein = both["rna"], both["prot"]
    label: npt.NDArray[Any] = rna.obs["cell_type"].astype(str).to_numpy()
    if n_labels > N_LABELS:
        label = np.concatenate([np.arange(n_labels), rng.integers(0, n_labels, n_cells)])[:n_cells].astype(str)
    known = rng.random(n_cells) < SHARE_LABELLED
    if n_labels > N_LABELS:
        known[:n_labels] = True  # a label that no cell has is none of the model's
        known[n_labels:] = rng.random(n_cells - n_labels) < (n_cells / 2 - n_labels) / (n_cells - n_labels)
    return ad.AnnData(
        thinned(sp.csr_matrix(rna.X), NON_ZERO, rng),
        obs=pd.DataFrame(
            {
                "label": pd.Categorical(np.where(known, label, UNLABELLED)),
                "true_label": pd.Categorical(label),
                "batch": rna.obs["batch"].to_numpy(),
            },
            index=rna.obs_names,
        ),
        obsm={"protein": pd.DataFrame(protein.X.toarray(), index=rna.obs_names, columns=protein.var_names)},
    )


def split_cells(n_training: int, n_held_out: int, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Simulate cells to train on and cells to hold out; of the latter, nobody is told a label."""
    cells = draw_cells(n_training + n_held_out, seed)
    order = np.random.default_rng(seed).permutation(cells.n_obs)
    held_out, training = (cells[np.sort(part)].copy() for part in (order[:n_held_out], order[n_held_out:]))
    held_out.obs["label"] = UNLABELLED
    return training, held_out
