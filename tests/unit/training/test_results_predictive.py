"""Simulated counts against the moments that the model says they have, and against the counts it learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mudata as md
import numpy as np
import pytest
import torch
from tests.support.reference_cells import PROTEINS, draw_adata, draw_cells
from tests.support.tiny_model import N_BATCHES, N_GENES, N_PROTEINS, tiny_model
from torch import Tensor

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.posterior import posteriors
from totalanvi.training.results.predictive import posterior_predictive

N_CELLS, N_TIMES = 4, 20_000


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Of both batches, with libraries of their own."""
    cells = draw_cells(N_CELLS, N_GENES, N_PROTEINS, N_BATCHES, without_proteins=0.0)
    return replace(cells, rna=(cells.rna * 10).tocsr())


@torch.no_grad()
def moments(model: TotalVAE, cells: Cells) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means and variances of the counts, by the laws of total expectation and variance over many draws of z."""
    posterior = next(posteriors(model, cells, len(cells)))
    batch, covariates = posterior.cells, posterior.covariates
    noise = torch.randn(20_000, *posterior.z.mean.shape)
    latent = model.transform(posterior.z.mean + posterior.z.scale * noise)
    covariates = covariates._replace(batch=covariates.batch.expand(len(noise), -1, -1))

    log_scale, dropout = model.decode_genes(latent, covariates)
    size, size_squared = batch.library, batch.library.square()
    if posterior.library is not None:
        size, size_squared = powers(*posterior.library)
    kept = torch.ones(()) if dropout is None else torch.sigmoid(-dropout)
    first = kept * size * log_scale.exp()
    second = kept * (size * log_scale.exp() + size_squared * (2 * log_scale).exp() * (1 + (-model.px_r).exp()))
    genes = total(first, second)

    decoded = model.decode_proteins(latent, covariates)
    efficiency = (covariates.batch @ model.log_per_batch_efficiency.t()).exp()
    beta, beta_squared = powers(decoded.log_background_mean, decoded.log_background_scale)
    background, ratio = decoded.background_logits.sigmoid(), decoded.log_foreground_ratio.exp()
    first = efficiency * beta * (background + (1 - background) * ratio)
    squares = efficiency.square() * beta_squared * (background + (1 - background) * ratio.square())
    return *genes, *total(first, first + squares * (1 + (-model.py_r).exp()))


def powers(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """First and second moment of a log-normal."""
    return (mean + scale.square() / 2).exp(), (2 * mean + 2 * scale.square()).exp()


def total(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    mean = first.mean(dim=0)
    return mean, second.mean(dim=0) - mean.square()


@pytest.mark.parametrize(
    "options",
    [{}, {"gene_likelihood": "zinb"}, {"use_observed_lib_size": False}, {"latent_distribution": "ln"}],
    ids=str,
)
def test_counts_have_the_moments_of_the_model(options: dict[str, Any], cells: Cells) -> None:
    model = tiny_model(**options)
    with torch.no_grad():
        # Tails short enough for the variance of a few thousand draws to be that of all.
        model.px_r.fill_(1.0)
        model.py_r.fill_(1.0)
        model.encoder.z_log_variance.bias.fill_(-2.0)
        model.protein_decoder.background_scale.bias.fill_(-2.0)
        if model.encoder.library is not None:
            model.encoder.library.log_variance.bias.fill_(-3.0)
    torch.manual_seed(0)
    mean_x, variance_x, mean_y, variance_y = (moment.numpy() for moment in moments(model, cells))
    many = cells[np.repeat(np.arange(N_CELLS), N_TIMES)]
    everything = np.arange(N_GENES), np.arange(N_PROTEINS)
    counts = posterior_predictive(model, many, *everything, n_samples=1, batch_size=10_000)
    for drawn, mean, variance in zip(counts, (mean_x, mean_y), (variance_x, variance_y), strict=True):
        drawn = drawn.reshape(N_CELLS, N_TIMES, -1)
        assert (drawn == drawn.round()).all()
        found, squares = drawn.mean(axis=1), (drawn - drawn.mean(axis=1, keepdims=True)) ** 2
        error_mean, error_variance = (values.std(axis=1) / N_TIMES**0.5 for values in (drawn, squares))
        assert (np.abs(found - mean) < 4.5 * error_mean + 0.01 * mean).all()
        assert (np.abs(squares.mean(axis=1) - variance) < 4.5 * error_variance + 0.02 * variance).all()


def test_the_batch_of_the_assay_shows(cells: Cells) -> None:
    """A protein that a batch captures a hundred times better has a hundred times the counts there."""
    model = tiny_model()
    with torch.no_grad():
        model.log_per_batch_efficiency.zero_()
    before = proteins_of(model, cells)
    with torch.no_grad():
        model.log_per_batch_efficiency[2, 1] = np.log(100.0)
    ratio = proteins_of(model, cells) / before
    expected = np.ones((N_CELLS, N_PROTEINS))
    expected[cells.batch == 1, 2] = 100.0
    assert np.allclose(ratio, expected, rtol=0.25)


def proteins_of(model: TotalVAE, cells: Cells) -> Any:
    torch.manual_seed(0)
    many = cells[np.repeat(np.arange(N_CELLS), 5_000)]
    _, protein = posterior_predictive(model, many, np.arange(0), np.arange(N_PROTEINS), n_samples=1, batch_size=20_000)
    return protein.reshape(N_CELLS, 5_000, N_PROTEINS).mean(axis=1)


def test_learned_counts_come_again(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    """Means over cells follow those observed, and nearly every count lies within the range of the draws."""
    torch.manual_seed(0)
    drawn = trained.posterior_predictive_sample(n_samples=40)
    # There are but twelve proteins, and the model trained for seconds: its draws move this by a few hundredths.
    for modality, feature_means in (("rna", 0.95), ("prot", 0.9)):
        observed = np.asarray(reference_mdata[modality].X.todense())
        means = np.log1p(drawn[modality].mean(axis=(0, 2))), np.log1p(observed.mean(axis=0))
        assert np.corrcoef(*means)[0, 1] > feature_means
        low, high = np.quantile(drawn[modality], (0.025, 0.975), axis=2)
        assert ((low <= observed) & (observed <= high)).mean() > 0.85


def test_shapes_and_names_for_mudata(trained: TOTALANVI) -> None:
    one = trained.posterior_predictive_sample(indices=range(5))
    assert one["rna"].shape == (5, 160)
    assert one["prot"].shape == (5, 12)
    assert one["rna"].dtype == one["prot"].dtype == np.float32
    several = trained.posterior_predictive_sample(indices=range(5), n_samples=3, batch_size=2)
    assert several["rna"].shape == (5, 160, 3)
    assert several["prot"].shape == (5, 12, 3)
    assert not np.array_equal(several["prot"][..., 0], several["prot"][..., 1])


def test_features_are_chosen_by_name(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    genes = list(reference_mdata["rna"].var_names[[9, 3]])
    torch.manual_seed(0)
    every = trained.posterior_predictive_sample(n_samples=200, indices=range(20))
    some = trained.posterior_predictive_sample(
        n_samples=200, indices=range(20), gene_list=genes, protein_list=["CD503", "CD501"]
    )
    for modality, chosen in (("rna", [9, 3]), ("prot", [2, 0])):
        assert some[modality].shape == (20, 2, 200)
        means = some[modality].mean(axis=(0, 2)), every[modality][:, chosen].mean(axis=(0, 2))
        assert np.allclose(*means, rtol=0.15, atol=0.02)
    none = trained.posterior_predictive_sample(indices=range(4), gene_list=[], protein_list=["CD501"])
    assert none["rna"].shape == (4, 0)
    assert none["prot"].shape == (4, 1)


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
def test_anndata_has_names_of_its_own(likelihood: Any) -> None:
    adata = draw_adata()
    TOTALVI.setup_anndata(adata, PROTEINS, batch_key="donor")
    model = TOTALVI(adata, n_latent=2, n_hidden=8, gene_likelihood=likelihood)
    drawn = model.posterior_predictive_sample(n_samples=2)
    assert {name: array.shape for name, array in drawn.items()} == {"rna": (20, 6, 2), "protein": (20, 3, 2)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, "n_samples: expected a whole number of at least 1, found 0"),
        ({"gene_list": ["NOPE"]}, "gene_list: expected genes of the model, found 'NOPE'"),
        ({"protein_list": ["NOPE"]}, "protein_list: expected proteins of the model, found 'NOPE'"),
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1"),
    ],
)
def test_bad_arguments_are_named(trained: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        trained.posterior_predictive_sample(**arguments)
