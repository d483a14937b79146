"""Feature correlations: against numpy and scipy on draws held whole, and against correlations that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_BATCHES, N_GENES, N_PROTEINS, tiny_model

from totalanvi.training import TOTALANVI
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.correlation import CorrelationOptions, denoised_blocks, feature_correlation
from totalanvi.training.results.moments import Moments, ranks, spearman
from totalanvi.training.results.posterior import posteriors

N_FEATURES = N_GENES + N_PROTEINS


def options(**given: Any) -> CorrelationOptions:
    usual = {"n_samples": 3, "rna_size_factor": 1000.0, "decode_as": (None,), "by_rank": False, "log_transform": False}
    return CorrelationOptions(**(usual | given))


def everything(model: TotalVAE, cells: Cells, chosen: CorrelationOptions) -> np.ndarray[Any, Any]:
    """All draws of `feature_correlation` with the same seed, at once."""
    torch.manual_seed(0)
    blocks = [block for code in chosen.decode_as for block in denoised_blocks(model, cells, chosen, code, 50)]
    return torch.cat(blocks).double().numpy()


def correlated(model: TotalVAE, cells: Cells, chosen: CorrelationOptions) -> np.ndarray[Any, Any]:
    torch.manual_seed(0)
    return feature_correlation(model, cells, chosen, batch_size=50)


def test_moments_of_parts_are_those_of_all() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, size=(1_000, 7)) @ rng.normal(size=(7, 7)) + 1e6  # means that hide the variance
    values[:, 5] = 7.1
    moments = Moments(7)
    for part in np.array_split(values, [1, 5, 600]):
        moments.add(torch.from_numpy(part))
    found, varied = moments.correlation(), np.arange(7) != 5
    assert np.isnan(found[5]).all()
    assert np.isnan(found[:, 5]).all()
    expected = np.corrcoef(values[:, varied], rowvar=False)
    assert np.allclose(found[np.ix_(varied, varied)], expected, atol=1e-9)
    assert np.abs(found[np.ix_(varied, varied)]).max() <= 1


def test_ranks_share_ties() -> None:
    values = np.random.default_rng(0).poisson(1.0, (50, 600)).astype(np.float32)
    assert np.array_equal(ranks(values), rankdata(values, axis=0))


def test_spearman_takes_what_varies_in_some_parts_alone() -> None:
    rng = np.random.default_rng(0)
    parts = [torch.from_numpy(rng.normal(size=(50, 3)).astype(np.float32)) for _ in range(2)]
    parts[0][:, 1] = 0.0
    parts[0][:, 2] = parts[1][:, 2] = 7.0
    found = spearman(iter(parts), 3)
    assert found[0, 1] == pytest.approx(spearman(iter(parts[1:]), 3)[0, 1])
    assert np.isnan(found[2]).all()


def test_spearman_of_one_part_is_scipys() -> None:
    values = np.random.default_rng(0).poisson(1.0, (80, 5)).astype(np.float32)
    assert np.allclose(spearman(iter([torch.from_numpy(values)]), 5), spearmanr(values).statistic)


@pytest.mark.parametrize("log_transform", [False, True])
@pytest.mark.parametrize("decode_as", [(None,), (0, 1)])
def test_it_equals_what_is_held_whole(log_transform: bool, decode_as: Sequence[int | None]) -> None:
    model, cells = tiny_model(), draw_cells(120, N_GENES, N_PROTEINS, N_BATCHES)
    chosen = options(log_transform=log_transform, decode_as=decode_as)
    draws = everything(model, cells, chosen).reshape(len(decode_as), 120 * 3, N_FEATURES)
    pearson = np.mean([np.corrcoef(part, rowvar=False) for part in draws], axis=0)
    assert np.allclose(correlated(model, cells, chosen), pearson, atol=1e-6)
    by_rank = np.mean([spearmanr(part).statistic for part in draws], axis=0)
    assert np.allclose(correlated(model, cells, replace(chosen, by_rank=True)), by_rank, atol=1e-6)


def test_many_draws_are_ranked_in_random_parts() -> None:
    """As closely as if all were ranked together, also where cells are in an order that means something."""
    model, cells = tiny_model(), draw_cells(6_000, N_GENES, N_PROTEINS, N_BATCHES)
    cells = cells[np.argsort(cells.batch, kind="stable")]
    chosen = options(n_samples=2)
    draws = everything(model, cells, chosen)
    assert len(draws) == 12_000
    assert np.allclose(correlated(model, cells, chosen), np.corrcoef(draws, rowvar=False), atol=1e-6)
    found = correlated(model, cells, replace(chosen, by_rank=True))
    assert np.allclose(found, spearmanr(draws).statistic, atol=2e-3)


@torch.no_grad()
def test_it_finds_the_correlation_that_the_model_has() -> None:
    """Given z, features are independent: they vary together as their means do."""
    model, cells = tiny_model(), draw_cells(40, N_GENES, N_PROTEINS, N_BATCHES)
    with torch.no_grad():
        model.px_r.fill_(3.0)
        model.py_r.fill_(3.0)
        model.gene_decoder.log_scale.weight.mul_(6.0)  # a latent space that matters
        model.protein_decoder.foreground_ratio.weight.mul_(6.0)
        model.protein_decoder.background_logits.bias.fill_(-1.0)
        model.protein_decoder.background_scale.bias.fill_(-3.0)
    torch.manual_seed(0)
    posterior = next(posteriors(model, cells, 40))
    latent = posterior.z.mean + posterior.z.scale * torch.randn(4_000, 40, 3)
    covariates = posterior.covariates._replace(batch=posterior.covariates.batch.expand(4_000, -1, -1))
    shares = model.decode_genes(latent, covariates)[0].exp()
    decoded = model.decode_proteins(latent, covariates)
    foreground, scale = decoded.foreground_probability, decoded.log_background_scale
    rate = (decoded.log_background + decoded.log_foreground_ratio).exp()
    mean = torch.cat((shares, foreground * rate), dim=-1).flatten(0, 1)
    square_genes = shares.square() * (1 + (-model.px_r).exp())
    square_proteins = foreground * rate.square() * scale.square().exp() * (1 + (-model.py_r).exp())
    squares = torch.cat((square_genes, square_proteins), dim=-1).flatten(0, 1)
    deviation = (squares.mean(dim=0) - mean.mean(dim=0).square()).sqrt()
    expected = (mean.t().cov() / deviation / deviation[:, None]).fill_diagonal_(1.0).numpy()

    found = correlated(model, cells, options(n_samples=1_000))
    assert np.abs(expected - np.eye(N_FEATURES)).max() > 0.3
    assert np.allclose(found, expected, atol=0.03)


def test_it_finds_the_correlation_of_the_tissue(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    """Proteins whose simulated foregrounds vary together do so here, and genes with them."""
    torch.manual_seed(0)
    found = trained.get_feature_correlation_matrix(correlation_type="spearman")
    proteins = list(reference_mdata["prot"].var_names)
    truth = spearmanr(reference_mdata["prot"].layers["foreground_mean"]).statistic
    pairs = np.triu_indices(len(proteins), 1)
    assert np.corrcoef(found.loc[proteins, proteins].to_numpy()[pairs], truth[pairs])[0, 1] > 0.5
    assert found.shape == (172, 172)
    assert found.columns.equals(found.index)
    assert list(found.index) == [*reference_mdata["rna"].var_names, *proteins]
    assert np.allclose(np.diag(found), 1.0)
    assert np.allclose(found, found.T)


def test_it_is_that_of_the_cells_given(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    some = np.arange(0, 400, 4)
    by_index = seeded(trained, indices=some)
    assert by_index.equals(seeded(trained, adata=reference_mdata[some].copy()))
    assert not np.allclose(by_index, seeded(trained), atol=0.05)


def test_batches_by_name_or_code(trained: TOTALANVI) -> None:
    one = seeded(trained, transform_batch="batch2", indices=range(100))
    assert one.equals(seeded(trained, transform_batch=1, indices=range(100)))
    assert one.equals(seeded(trained, transform_batch=["batch2"], indices=range(100)))
    assert not one.equals(seeded(trained, transform_batch="batch1", indices=range(100)))


def seeded(model: TOTALANVI, **arguments: Any) -> pd.DataFrame:
    torch.manual_seed(0)
    return model.get_feature_correlation_matrix(n_samples=2, correlation_type="pearson", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, "n_samples: expected a whole number of at least 1, found 0"),
        ({"correlation_type": "kendall"}, "correlation_type: expected one of spearman, pearson, found 'kendall'"),
        ({"rna_size_factor": -1}, "rna_size_factor: expected a number above 0, found -1"),
        ({"transform_batch": "nowhere"}, "transform_batch: expected one of the model's batches .*, found 'nowhere'"),
        ({"indices": [3], "n_samples": 1}, "n_samples: expected two draws or more to correlate"),
        ({"indices": []}, "Expected cells, found none"),
    ],
)
def test_bad_arguments_are_named(trained: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        trained.get_feature_correlation_matrix(**arguments)
