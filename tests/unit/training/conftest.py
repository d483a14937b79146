"""A small reference, and a model that knows it; trained once."""

from __future__ import annotations

from collections.abc import Iterator

import mudata as md
import numpy as np
import pytest
import torch
from tests.support.reference_cells import FAST, MODALITIES

from totalanvi.training import TOTALANVI, TOTALVI, simulate


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several threads, and much slower where others use the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference() -> md.MuData:
    """500 cells of four types in two batches; "known" lacks the type of a third of them. Not to be changed."""
    mdata = simulate(n_cells=500, n_genes=120, n_proteins=12, n_labels=4, seed=3)
    hidden = np.random.default_rng(0).random(mdata.n_obs) < 1 / 3
    mdata["rna"].obs["known"] = mdata["rna"].obs["cell_type"].astype(str).where(~hidden, "unknown")
    TOTALANVI.setup_mudata(
        mdata, batch_key="batch", labels_key="known", unlabeled_category="unknown", modalities=MODALITIES
    )
    return mdata


@pytest.fixture(scope="session")
def trained(reference: md.MuData) -> TOTALANVI:
    """TotalANVI that has seen `reference`. Not to be changed."""
    model = TOTALANVI(reference, n_latent=8, n_hidden=48)
    model.train(max_epochs=20, batch_size=64, n_epochs_kl_warmup=15, **FAST)
    return model


@pytest.fixture(scope="session")
def trained_totalvi(reference: md.MuData) -> TOTALVI:
    """TotalVI that has seen `reference` for a moment. Not to be changed."""
    model = TOTALVI(reference, n_latent=6, n_hidden=24)
    model.train(max_epochs=3, batch_size=128, **FAST)
    return model
