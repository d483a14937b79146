"""What the speed of serving is measured on: simulated cells, and the product's bundles of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from scipy.optimize import brentq

from totalanvi.serving.bundles.graphs import ENCODER_RNA

N_REFERENCE, N_QUERY, N_GENES, N_PROTEINS, N_LABELS = 4_000, 20_000, 4_000, 100, 20
NON_ZERO = 0.073
"""Share of RNA counts that are not zero: that of real droplets at this many genes; more are simulated, and thinned."""
EPOCHS, PEER_EPOCHS = 20, 5
"""Of training: enough for labels that are worth something; how fast they come does not depend on it."""
DEFAULTS = 2
"""Counted up when the model's defaults change: one of before is trained anew."""
LABELS, PROTEINS = "cell_type", "protein_expression"
BUNDLES = ("plain", "readout")
"""Without a readout, and with one."""
CACHE = Path(__file__).resolve().parent / ".cache" / "speed"


def simulated_bundle() -> Path:
    """Return the bundle without a readout, made when it is not there."""
    prepare(CACHE, seed=0)
    return CACHE / "plain.bundle"


def prepare(folder: Path, seed: int) -> None:
    """Write reference, query and two bundles, without a readout and with one; quick when they are there."""
    done = folder / "done.json"
    sizes = [N_REFERENCE, N_QUERY, N_GENES, N_PROTEINS, N_LABELS]
    wanted = {"sizes": sizes, "non_zero": NON_ZERO, "epochs": EPOCHS, "seed": seed, "defaults": DEFAULTS}
    if done.exists() and json.loads(done.read_text()) == wanted:
        for name in BUNDLES:
            # One from before there was such a graph would be served more slowly.
            if not (folder / f"{name}.bundle" / ENCODER_RNA.file).exists():
                _export(folder, name)
        return
    from totalanvi.training import TOTALANVI

    folder.mkdir(parents=True, exist_ok=True)
    cells = _simulate(seed)
    reference, query = cells[:N_REFERENCE].copy(), cells[N_REFERENCE:].copy()
    reference.write_h5ad(folder / "reference.h5ad")
    query.write_h5ad(folder / "query.h5ad")
    TOTALANVI.setup_anndata(
        reference,
        batch_key="batch",
        labels_key=LABELS,
        unlabeled_category="unlabelled",
        protein_expression_obsm_key=PROTEINS,
    )
    model: Any = TOTALANVI(reference)
    model.train(max_epochs=EPOCHS, seed=seed)
    for name in BUNDLES:
        if name == "readout":
            model.fit_readout()
        model.save(folder / f"{name}.checkpoint", overwrite=True)
        _export(folder, name)
    done.write_text(json.dumps(wanted))


def _export(folder: Path, name: str) -> None:
    from totalanvi.export import export_bundle

    export_bundle(folder / f"{name}.checkpoint", folder / f"{name}.bundle", overwrite=True)


def thinned(counts: sp.csr_matrix, non_zero: float, rng: np.random.Generator) -> sp.csr_matrix:
    """Keep each molecule with the chance that leaves this share of the counts, (cells, genes), above zero."""
    return drawn_again(counts, share_to_keep(counts, non_zero), rng)


def share_to_keep(counts: sp.csr_matrix, non_zero: float) -> float:
    """Share of molecules that leaves this share of the counts, (cells, genes), above zero."""
    size = counts.shape[0] * counts.shape[1]
    return float(brentq(lambda p: float((1 - (1 - p) ** counts.data).sum()) / size - non_zero, 0, 1))


def drawn_again(counts: sp.csr_matrix, kept: float, rng: np.random.Generator) -> sp.csr_matrix:
    """Keep each molecule with this chance."""
    rows = counts.copy()
    rows.data = rng.binomial(counts.data.astype(np.int64), kept).astype(np.float32)
    rows.eliminate_zeros()
    return rows


def _simulate(seed: int) -> ad.AnnData:
    """Simulate cells, of which as many counts are not zero as of real ones."""
    from totalanvi.training import simulate

    mdata = simulate(
        n_cells=N_REFERENCE + N_QUERY,
        n_genes=N_GENES,
        n_proteins=N_PROTEINS,
        n_labels=N_LABELS,
        n_batches=2,
        seed=seed,
    )
    rna = thinned(sp.csr_matrix(mdata["rna"].X), NON_ZERO, np.random.default_rng(seed))
    cells = ad.AnnData(rna, obs=mdata["rna"].obs, var=mdata["rna"].var[[]])
    protein = mdata["prot"].to_df()
    cells.obsm[PROTEINS] = protein.loc[cells.obs_names]
    return cells
