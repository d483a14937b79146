"""Parameters of the likelihoods: that they are those which make the counts likely, and their shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_BATCHES, N_GENES, N_PROTEINS, tiny_model
from torch.distributions import NegativeBinomial

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.likelihood import reconstruction_error
from totalanvi.training.results.parameters import likelihood_parameters, protein_background_mean
from totalanvi.training.results.predictive import posterior_predictive

N_CELLS = 5
NAMES = {
    "mean",
    "dispersions",
    "protein_log_background_mean",
    "protein_log_background_scale",
    "protein_foreground_ratio",
    "protein_mixing",
    "protein_dispersions",
}


@pytest.fixture(scope="module")
def cells() -> Cells:
    return draw_cells(N_CELLS, N_GENES, N_PROTEINS, N_BATCHES, without_proteins=0.0)


def certain(**options: Any) -> TotalVAE:
    """A model whose posterior has next to no width, so that all draws are one."""
    model = tiny_model(**options)
    with torch.no_grad():
        model.encoder.z_log_variance.bias.fill_(-50.0)
    return model


def test_gene_parameters_are_those_of_the_likelihood(cells: Cells) -> None:
    model = certain()
    parameters = likelihood_parameters(model, cells, n_samples=50, give_mean=True, batch_size=2)
    theta = torch.from_numpy(parameters["dispersions"])
    likelihood = NegativeBinomial(theta, logits=torch.from_numpy(parameters["mean"]).log() - theta.log())
    log_p = likelihood.log_prob(torch.from_numpy(cells.rna.toarray())).sum(dim=-1)
    error = reconstruction_error(model, cells, batch_size=2)["reconst_loss_gene"]
    assert torch.allclose(-log_p.double(), error, rtol=0.02, atol=0.1)


def test_parameters_say_what_is_counted_on_average(cells: Cells) -> None:
    """Extra zeros, background, and the efficiency of the batch included."""
    model = certain(gene_likelihood="zinb")
    found = likelihood_parameters(model, cells, n_samples=50, give_mean=True, batch_size=2)
    many = cells[np.repeat(np.arange(N_CELLS), 8_000)]
    torch.manual_seed(0)
    every = np.arange(N_GENES), np.arange(N_PROTEINS)
    rna, protein = (
        counts.reshape(N_CELLS, 8_000, -1).mean(axis=1)
        for counts in posterior_predictive(model, many, *every, n_samples=1, batch_size=8_000)
    )
    assert np.allclose(rna, found["mean"] * (1 - found["dropout"]), rtol=0.15, atol=0.05)
    background = np.exp(found["protein_log_background_mean"] + found["protein_log_background_scale"] ** 2 / 2)
    share = found["protein_mixing"] + (1 - found["protein_mixing"]) * found["protein_foreground_ratio"]
    assert np.allclose(protein, background * share, rtol=0.15, atol=0.05)


def test_names_and_shapes(trained: TOTALANVI) -> None:
    one = trained.get_likelihood_parameters(indices=range(7), batch_size=3)
    assert one.keys() == NAMES
    for name, values in one.items():
        width = 160 if name in ("mean", "dispersions") else 12
        assert values.shape == (7, width), name
        assert values.dtype == np.float32
    torch.manual_seed(0)
    draws = trained.get_likelihood_parameters(indices=range(7), n_samples=3)
    torch.manual_seed(0)
    average = trained.get_likelihood_parameters(indices=range(7), n_samples=3, give_mean=True)
    for name in NAMES:
        assert draws[name].shape == (*one[name].shape, 3)
        assert np.allclose(draws[name].mean(axis=2), average[name], rtol=1e-4, atol=1e-6), name
    assert not np.allclose(draws["mean"][..., 0], draws["mean"][..., 1])


def test_ranges(trained: TOTALANVI) -> None:
    found = trained.get_likelihood_parameters()
    assert (found["protein_foreground_ratio"] >= 1).all()
    assert ((found["protein_mixing"] > 0) & (found["protein_mixing"] < 1)).all()
    for name in ("mean", "dispersions", "protein_log_background_scale", "protein_dispersions"):
        assert (found[name] > 0).all(), name


@pytest.mark.parametrize(
    ("options", "differs"),
    [({}, False), ({"gene_dispersion": "gene-batch"}, True), ({"labels": 3, "gene_dispersion": "gene-label"}, True)],
)
def test_dispersions_are_each_cells(options: dict[str, Any], differs: bool, cells: Cells) -> None:
    model = tiny_model(**options)
    found = likelihood_parameters(model, cells, n_samples=1, give_mean=False, batch_size=3)["dispersions"]
    assert found.shape == (N_CELLS, N_GENES)
    assert (found != found[0]).any() == differs
    if options.get("gene_dispersion") == "gene-batch":
        assert np.allclose(found, model.px_r.detach().exp().t()[cells.batch], rtol=1e-5)


def test_libraries_scale_the_mean(cells: Cells) -> None:
    rich = replace(cells, rna=(cells.rna * 7).tocsr())
    means = likelihood_parameters(certain(), rich, 1, give_mean=True, batch_size=2)["mean"]
    assert np.allclose(means.sum(axis=1), np.maximum(rich.rna.sum(axis=1).A1, 1.0), rtol=1e-4)


def test_background_mean_is_that_of_the_expression(trained: TOTALANVI) -> None:
    """What `include_protein_background` adds is a share of it."""
    background = trained.get_protein_background_mean(None, range(30), 8)
    assert background.shape == (30, 12)
    draws = {
        included: trained.get_normalized_expression(
            indices=range(30), n_samples=200, include_protein_background=included, return_numpy=True, gene_list=[]
        )[1]
        for included in (False, True)
    }
    share = 1 - trained.get_protein_foreground_probability(indices=range(30), n_samples=200, return_numpy=True)
    ratio = (draws[True] - draws[False]) / (background * share)
    assert 0.8 < np.median(ratio) < 1.25


def test_background_mean_leaves_the_efficiency_out(cells: Cells) -> None:
    model = tiny_model()
    before = protein_background_mean(model, cells, batch_size=2)
    with torch.no_grad():
        model.log_per_batch_efficiency.add_(3.0)
    assert np.array_equal(protein_background_mean(model, cells, batch_size=2), before)


def test_at_least_one_sample(trained_totalvi: TOTALVI) -> None:
    with pytest.raises(ArgumentError, match="n_samples: expected a whole number of at least 1, found -1"):
        trained_totalvi.get_likelihood_parameters(n_samples=-1)
