"""Where a network begins: at the mean of its cells, so that they differ from the first step on."""

from __future__ import annotations

import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.support.tiny_model import tiny_model

from totalanvi.training import TOTALANVI, TrainingConfig
from totalanvi.training.data import Cells
from totalanvi.training.fitting.optimizers import model_optimizer
from totalanvi.training.network.beginning import begin_from
from totalanvi.training.network.inputs import EncoderInputs


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_latents_begin_spread_as_their_prior(reference_mdata: md.MuData, norm: str) -> None:
    model = TOTALANVI(reference_mdata, n_latent=4, n_hidden=16, norm_encoder=norm)
    batch = model._reference_cells().to_batch()
    q_z, _ = model.module.eval().encode(EncoderInputs.of(batch, model.module.dims))
    torch.testing.assert_close(q_z.mean.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(q_z.mean.std(dim=0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert (q_z.scale < 0.7).all()


def test_shares_begin_at_those_of_the_cells(reference_mdata: md.MuData) -> None:
    model = TOTALANVI(reference_mdata, n_latent=4, n_hidden=16)
    total = torch.from_numpy(np.asarray(model._reference_cells().rna.sum(axis=0))).ravel() + 1.0
    torch.testing.assert_close(model.module.gene_decoder.log_scale.bias.softmax(dim=0), total / total.sum())


def test_cells_that_are_all_alike_leave_finite_weights_and_the_mode() -> None:
    module = tiny_model(3).train()
    n, dims = 5, module.dims
    nothing = sp.csr_matrix((n, dims.n_genes), dtype=np.float32)
    proteins, codes = np.zeros((n, dims.n_proteins), np.float32), np.zeros(n, np.int64)
    begin_from(module, Cells(nothing, proteins, proteins > 0, codes, codes, codes))
    assert module.training
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert module.encoder.z_mean.weight.abs().max() < 1


def test_what_is_a_features_own_learns_faster() -> None:
    module = tiny_model(3)
    optimizer = model_optimizer(module, TrainingConfig(lr=0.01))
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert rates[id(module.px_r)] == rates[id(module.background_pro_alpha)] == pytest.approx(0.1)
    assert {rates[id(weight)] for weight in module.gene_decoder.parameters()} == {0.01}
    assert len(rates) == sum(weight.requires_grad for weight in module.parameters())
