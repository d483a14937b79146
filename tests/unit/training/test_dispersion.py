"""Dispersions that differ by batch or by label, and the size factor in the place of the library."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.support.tiny_model import N_GENES, N_PROTEINS, TINY, tiny_batch, tiny_model
from torch.distributions import NegativeBinomial

from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.inputs import EncoderInputs


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, ((N_GENES,), (N_PROTEINS,))),
        ({"gene_dispersion": "gene-batch", "protein_dispersion": "protein-batch"}, ((N_GENES, 2), (N_PROTEINS, 2))),
        ({"gene_dispersion": "gene-label", "protein_dispersion": "protein-label"}, ((N_GENES, 3), (N_PROTEINS, 3))),
    ],
)
def test_each_cell_has_the_dispersion_of_its_batch_or_label(options: dict[str, Any], shapes: tuple[Any, ...]) -> None:
    torch.manual_seed(0)
    model, batch = tiny_model(3, **options), tiny_batch()
    assert (tuple(model.px_r.shape), tuple(model.py_r.shape)) == shapes
    terms = model(batch)
    # The same draw of z and β again, with the dispersion of each cell looked up by hand.
    covariates = EncoderInputs.of(batch, model.dims).covariates
    labels = model.label_weights(terms.latent, batch.label)
    theta = model.gene_log_theta(covariates, labels).exp()
    codes = {"gene": None, "gene-batch": batch.batch, "gene-label": batch.label}[model.config.gene_dispersion]
    if codes is None:
        expected = model.px_r.exp()
        known = torch.ones(batch.n_cells, dtype=torch.bool)
    else:
        known = codes != UNLABELLED
        expected = model.px_r.t()[codes[known]].exp()
        theta = theta[known]
    assert torch.allclose(theta, expected)
    log_share, _ = model.decode_genes(terms.latent, covariates)
    log_mean = batch.library.clamp(min=1.0).log() + log_share
    log_theta = model.gene_log_theta(covariates, labels)
    density = NegativeBinomial(log_theta.exp(), logits=log_mean - log_theta).log_prob(batch.rna.to_dense()).sum(dim=1)
    assert torch.allclose(terms.reconstruction_gene, -density, rtol=1e-4)


def test_a_cell_without_label_weighs_the_labels_by_what_it_may_be() -> None:
    model, batch = tiny_model(3, gene_dispersion="gene-label"), tiny_batch()
    latent = model(batch).latent
    weights = model.label_weights(latent, batch.label)
    assert weights is not None
    unknown = batch.label == UNLABELLED
    assert torch.allclose(weights[unknown], model.classify(latent)[unknown].softmax(dim=-1))
    assert torch.equal(weights[~unknown].argmax(dim=1), batch.label[~unknown])
    assert set(weights[~unknown].unique().tolist()) == {0.0, 1.0}


def test_totalvi_with_labels_weighs_them_alike_where_there_is_none() -> None:
    model = tiny_model(0, dims=replace(TINY, n_labels=4), protein_dispersion="protein-label")
    weights = model.label_weights(torch.zeros(2, 3), torch.tensor([UNLABELLED, 2]))
    assert weights is not None
    assert weights.tolist() == [[0.25] * 4, [0.0, 0.0, 1.0, 0.0]]


def test_labels_are_not_asked_for_where_no_dispersion_needs_them() -> None:
    model = tiny_model(3)
    assert model.label_weights(torch.zeros(2, 3), torch.tensor([0, UNLABELLED])) is None


def test_dispersions_by_label_need_labels() -> None:
    with pytest.raises(ArgumentError, match="Expected labels for the dispersion 'gene-label', found none; name a lab"):
        tiny_model(0, gene_dispersion="gene-label")


def test_a_size_factor_takes_the_place_of_the_library() -> None:
    model = tiny_model(3, dims=replace(TINY, has_size_factor=True, n_labels=3), use_observed_lib_size=False)
    batch = replace(tiny_batch(), size_factor=torch.rand(12, 1) + 0.5)
    assert model.encoder.library is None
    assert not hasattr(model, "library_log_means")
    assert model.use_size_factor_key
    assert torch.allclose(model.log_size(batch, None), batch.size_factor.log())
    terms = model(batch)
    log_scale, _ = model.decode_genes(terms.latent, EncoderInputs.of(batch, model.dims).covariates)
    assert not torch.allclose(log_scale.exp().sum(dim=1), torch.ones(12)), "a size factor is on no scale of counts"
    log_mean = batch.size_factor.log() + log_scale
    density = NegativeBinomial(model.px_r.exp(), logits=log_mean - model.px_r).log_prob(batch.rna.to_dense())
    assert torch.allclose(terms.reconstruction_gene, -density.sum(dim=1), rtol=1e-4)


def test_the_size_of_a_gene_far_below_zero_stays_finite() -> None:
    model = tiny_model(dims=replace(TINY, has_size_factor=True))
    with torch.no_grad():
        model.gene_decoder.log_scale.bias.fill_(-300.0)
    model.gene_decoder.log_scale.bias.requires_grad_(True)
    batch = replace(tiny_batch(), size_factor=torch.ones(12, 1))
    loss = model(batch).loss().sum()
    loss.backward()
    assert loss.isfinite()
    assert model.gene_decoder.log_scale.bias.grad.isfinite().all()
