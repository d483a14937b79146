"""Library sizes: inferred, observed, or a size factor."""

from __future__ import annotations

from dataclasses import replace

import mudata as md
import numpy as np
import torch
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_BATCHES, N_GENES, N_PROTEINS, TINY, tiny_model

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.library import latent_library_size


def test_an_observed_library_is_the_total_count(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    found = trained.get_latent_library_size(indices=[3, 1])
    assert found.shape == (2, 1)
    assert found.dtype == np.float32
    assert np.array_equal(found.ravel(), np.asarray(reference_mdata["rna"].X.sum(axis=1)).ravel()[[3, 1]])
    assert np.array_equal(trained.get_latent_library_size(give_mean=False, indices=[3, 1]), found)


def test_an_inferred_library_is_a_mean_or_a_draw(reference_mdata: md.MuData) -> None:
    model = TOTALVI(
        reference_mdata, n_latent=2, n_hidden=8, use_observed_lib_size=False, empirical_protein_background_prior=False
    )
    torch.manual_seed(0)
    mean = model.get_latent_library_size(indices=range(6), batch_size=4)
    draws = model.get_latent_library_size(indices=np.tile(np.arange(6), 5_000), give_mean=False).reshape(5_000, 6)
    assert np.abs(draws.mean(axis=0) - mean.ravel()).max() < 5 * (draws.std(axis=0) / 5_000**0.5).max()
    assert (draws.std(axis=0) > 0).all()


def test_a_size_factor_is_its_own_library() -> None:
    without = draw_cells(6, N_GENES, N_PROTEINS, N_BATCHES)
    cells = replace(without, size_factor=np.arange(1.0, 7.0, dtype=np.float32)[:, None])
    model = TotalVAE(replace(TINY, has_size_factor=True), ModelConfig(n_latent=2, n_hidden=8))
    assert np.array_equal(latent_library_size(model, cells, give_mean=True, batch_size=4), cells.size_factor)
    total = latent_library_size(tiny_model(), without, give_mean=True, batch_size=4)
    assert np.array_equal(total, without.rna.sum(axis=1))
