"""Where a new network begins: with latents that are as far apart as their prior says."""

from __future__ import annotations

import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.support.tiny_model import tiny_model

from totalanvi.training import TOTALANVI
from totalanvi.training.data import Cells
from totalanvi.training.network.beginning import spread_latents
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.layers import BatchNorm


@pytest.mark.parametrize("norm", ["layer", "batch", "batch+layer", "none"])
def test_latents_begin_spread_as_their_prior_is(reference_mdata: md.MuData, norm: str) -> None:
    model = TOTALANVI(reference_mdata, n_latent=4, n_hidden=16, norm_encoder=norm)
    batch = model._reference_cells().to_batch()
    encoder = model.module.eval().encoder
    for part in encoder.modules():
        if isinstance(part, BatchNorm):
            part.train()  # as it is in training
    q_z, _ = encoder(EncoderInputs.of(batch, model.module.dims))
    torch.testing.assert_close(q_z.mean.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(q_z.mean.std(dim=0, correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_a_network_is_left_in_the_mode_it_was_in_and_random_numbers_where_they_were() -> None:
    module = tiny_model(3, norm_encoder="batch").train()
    torch.manual_seed(0)
    spread_latents(module, alike(module.dims.n_genes, module.dims.n_proteins))
    assert all(part.training for part in module.modules())
    there = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(there, torch.rand(1))


def test_cells_that_are_all_alike_are_only_shifted() -> None:
    module = tiny_model(3)
    before = module.encoder.z_mean.weight.clone()
    cells = alike(module.dims.n_genes, module.dims.n_proteins)
    spread_latents(module, cells)
    assert torch.equal(module.encoder.z_mean.weight, before)
    q_z, _ = module.encode(EncoderInputs.of(cells.to_batch(), module.dims))
    torch.testing.assert_close(q_z.mean, torch.zeros_like(q_z.mean), atol=1e-5, rtol=0)


def alike(n_genes: int, n_proteins: int) -> Cells:
    """Five cells without any count."""
    proteins, codes = np.zeros((5, n_proteins), np.float32), np.zeros(5, np.int64)
    return Cells(sp.csr_matrix((5, n_genes), dtype=np.float32), proteins, proteins > 0, codes, codes, codes)
