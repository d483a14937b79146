"""Batch, categorical and continuous covariates, as the network takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.tiny_model import TINY, tiny_batch, tiny_model
from torch import Tensor

from totalanvi.training.data import CellBatch, Cells
from totalanvi.training.network.covariates import Covariates, UsualCovariates
from totalanvi.training.network.inputs import EncoderInputs

DIMS = replace(TINY, n_categories=(3, 2), n_continuous=2, n_labels=3)


def batch_with_covariates(n_cells: int = 12) -> CellBatch:
    batch = tiny_batch(n_cells=n_cells)
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.arange(n_cells) % n for n in DIMS.n_categories], dim=1)
    return replace(batch, categorical=codes, continuous=torch.randn(n_cells, 2, generator=generator))


def test_one_hots_side_by_side() -> None:
    batch = batch_with_covariates()
    covariates = Covariates.of(batch, DIMS)
    assert covariates.injected.shape == (12, DIMS.n_injected) == (12, 2 + 3 + 2)
    assert torch.equal(covariates.batch.argmax(dim=1), batch.batch)
    assert torch.equal(covariates.injected[:, 2:5].argmax(dim=1), batch.categorical[:, 0])
    assert torch.equal(covariates.injected[:, 5:].argmax(dim=1), batch.categorical[:, 1])
    assert torch.equal(covariates.injected.sum(dim=1), torch.full((12,), 3.0))
    assert torch.equal(covariates.beside(torch.zeros(12, 1))[:, 1:], batch.continuous)


def test_pretending_to_be_of_one_batch() -> None:
    covariates = Covariates.of(batch_with_covariates(), DIMS)
    other = covariates.with_batch(1)
    assert torch.equal(other.batch, torch.tensor([[0.0, 1.0]]).expand(12, 2))
    assert other.categorical is covariates.categorical
    assert covariates.with_batch(None) is covariates


def test_without_covariates_the_batch_alone_is_injected() -> None:
    covariates = Covariates.of(tiny_batch(), TINY)
    assert covariates.categorical is None
    assert covariates.continuous is None
    assert covariates.injected is covariates.batch
    assert covariates.beside(covariates.batch) is covariates.batch


def test_usual_covariates_are_the_average_of_the_cells() -> None:
    batch = batch_with_covariates()
    cells = Cells(
        rna=np.empty((12, 0)),  # type: ignore[arg-type]  # nobody looks at the counts
        protein=batch.protein.numpy(),
        measured=batch.measured.numpy(),
        batch=batch.batch.numpy(),
        panel=batch.panel.numpy(),
        label=batch.label.numpy(),
        categorical=batch.categorical.numpy(),
        continuous=batch.continuous.numpy(),
    )
    usual = UsualCovariates(DIMS)
    usual.learn(cells, DIMS)
    completed = usual(torch.zeros(5, 2))
    assert completed.categorical is not None
    assert completed.continuous is not None
    assert torch.allclose(completed.categorical[3], torch.tensor([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2]))
    assert torch.allclose(completed.continuous[0], batch.continuous.mean(dim=0))


@pytest.mark.parametrize("encode", [True, False])
def test_covariates_reach_decoders_always_and_the_encoder_where_they_are_encoded(encode: bool) -> None:
    model = tiny_model(3, dims=DIMS, encode_covariates=encode)
    batch = batch_with_covariates()
    inputs = EncoderInputs.of(batch, DIMS)
    z = model.encode(inputs)[0].mean
    for change in ("categorical", "continuous"):
        values: Tensor = getattr(inputs.covariates, change)
        other = inputs.covariates._replace(**{change: values.flip(0) + 0.5})
        moved = model.encode(replace(inputs, covariates=other))[0].mean
        assert torch.equal(moved, z) is not encode
        genes, proteins = model.decode_genes(z, inputs.covariates)[0], model.decode_proteins(z, inputs.covariates)
        assert not torch.allclose(model.decode_genes(z, other)[0], genes)
        for name in ("log_background_mean", "log_foreground_ratio", "background_logits"):
            assert not torch.allclose(getattr(model.decode_proteins(z, other), name), getattr(proteins, name)), name
