"""Which samples have more cells of a state: against torch's mixtures, and on samples of known composition."""

from __future__ import annotations

from typing import Any

import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from tests.support.reference_cells import FAST, PROTEINS, draw_adata
from torch.distributions import MixtureSameFamily

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError
from totalanvi.training.errors import MissingKeyError
from totalanvi.training.network.losses import Normal
from totalanvi.training.results import abundance
from totalanvi.training.results.abundance import Aggregated


@pytest.fixture(scope="module")
def on_adata() -> TOTALVI:
    """A model of 20 cells in an AnnData. Not to be changed."""
    adata = draw_adata()
    TOTALVI.setup_anndata(adata, PROTEINS, batch_key="donor")
    model = TOTALVI(adata, n_latent=3, n_hidden=8)
    model.train(max_epochs=1, train_size=0.8, **FAST)
    return model


@pytest.fixture
def mdata(reference_mdata: md.MuData, truth: npt.NDArray[np.str_]) -> md.MuData:
    """The reference with samples that differ in what they are made of: "rich" has nine in ten of the alphas."""
    with not_pulling():
        mdata = reference_mdata.copy()
    draws = np.random.default_rng(0).random(mdata.n_obs)
    is_alpha = np.char.startswith(truth.astype(str), "alpha")
    mdata["rna"].obs["sample"] = np.where(draws < np.where(is_alpha, 0.9, 0.1), "rich", "poor")
    return mdata


# The density


@pytest.mark.parametrize("dof", [None, 3.0])
@pytest.mark.parametrize("most_values", [2, 40, 2**22])
def test_the_density_is_that_of_the_mixture(
    dof: float | None, most_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few numbers are held at once."""
    monkeypatch.setattr(abundance, "_MOST_VALUES", most_values)
    torch.manual_seed(0)
    mixture = Aggregated(Normal(torch.randn(7, 2), torch.rand(7, 2) + 0.1), dof)
    points = 3 * torch.randn(11, 2)
    assert torch.allclose(mixture.log_density(points), mixture.distribution().log_prob(points), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("indices", [None, [], np.array([]), [4, 2, 7], np.arange(20) < 5])
def test_the_aggregated_posterior_is_that_of_the_chosen_cells(on_adata: TOTALVI, indices: Any) -> None:
    found = on_adata.get_aggregated_posterior(indices=indices, dof=None)
    assert isinstance(found, MixtureSameFamily)
    chosen = slice(None) if indices is None or len(indices) == 0 else indices
    mean, variance = (part[chosen] for part in on_adata.get_latent_representation(return_dist=True))
    assert np.allclose(found.component_distribution.base_dist.loc, mean, atol=1e-5)
    assert np.allclose(found.mean, mean.mean(axis=0), atol=1e-5)
    # Of a mixture: the mean of the variances, and the variance of the means.
    assert np.allclose(found.variance, variance.mean(axis=0) + mean.var(axis=0), rtol=1e-3)
    assert on_adata.get_aggregated_posterior(dof=5).component_distribution.base_dist.df.eq(5).all()


# Samples


def test_abundance_tells_the_composition_of_samples(
    trained: TOTALANVI, mdata: md.MuData, truth: npt.NDArray[np.str_]
) -> None:
    """At an alpha's state a sample with nine alphas in ten is 9 times as dense as one with one, both the same size."""
    trained.differential_abundance(mdata, sample_key="sample")
    densities = mdata.obsm["da_log_probs"]
    assert set(densities.columns) == {"rich", "poor"}
    assert densities.index.equals(mdata.obs_names)
    ratio = (densities["rich"] - densities["poor"]).to_numpy()
    counts = pd.crosstab(truth, mdata["rna"].obs["sample"].to_numpy())
    counts = counts.groupby(counts.index.str[:4]).sum() / counts.sum()
    expected = np.log(counts["rich"] / counts["poor"])
    for kind in ("alph", "beta"):
        of_kind = np.char.startswith(truth.astype(str), kind)
        assert np.median(ratio[of_kind]) == pytest.approx(expected[kind], abs=0.7)
        assert np.mean(np.sign(ratio[of_kind]) == np.sign(expected[kind])) > 0.9


def test_densities_are_those_of_the_aggregated_posteriors(on_adata: TOTALVI) -> None:
    adata = draw_adata()
    adata.obs["sample"] = [3, 1] * 10
    for dof in (None, 3.0):
        on_adata.differential_abundance(adata, sample_key="sample", dof=dof)
        found = adata.obsm["da_log_probs"]
        assert found.columns.tolist() == [3, 1]
        points = torch.from_numpy(on_adata.get_latent_representation(adata))
        for name in (3, 1):
            mixture = on_adata.get_aggregated_posterior(adata, adata.obs["sample"].to_numpy() == name, dof=dof)
            assert np.allclose(found[name], mixture.log_prob(points), rtol=1e-4, atol=1e-4)


def test_other_cells_are_asked_about(on_adata: TOTALVI) -> None:
    adata = draw_adata()
    adata.obs["sample"] = pd.Categorical(["a", "b", "c", None] * 5, categories=["c", "b", "a"])
    on_adata.differential_abundance(adata, sample_key="sample")
    part = adata[[1, 0, 4, 5]].copy()
    del part.obsm["da_log_probs"]
    on_adata.differential_abundance(adata, part, sample_key="sample")
    whole = adata.obsm["da_log_probs"]
    assert whole.columns.tolist() == ["a", "b", "c"]
    assert part.obsm["da_log_probs"].columns.tolist() == ["b", "a"]
    expected = whole.iloc[[1, 0, 4, 5]][["b", "a"]]
    pd.testing.assert_frame_equal(part.obsm["da_log_probs"], expected, rtol=1e-4)


def test_some_cells_may_stand_for_a_sample(on_adata: TOTALVI) -> None:
    def densities(most: int | None) -> pd.DataFrame:
        adata = draw_adata()
        adata.obs["sample"] = ["a"] * 12 + ["b"] * 8
        on_adata.differential_abundance(adata, sample_key="sample", num_cells_posterior=most)
        return adata.obsm["da_log_probs"]

    every, some = densities(None), densities(8)
    assert not np.allclose(some["a"], every["a"])
    assert np.allclose(some["b"], every["b"], rtol=1e-4)
    assert some.equals(densities(8))


def test_cells_without_rna_have_no_density(trained: TOTALANVI, mdata: md.MuData) -> None:
    with not_pulling():
        mdata = md.MuData({"rna": mdata["rna"][5:].copy(), "prot": mdata["prot"].copy()})
    with pytest.warns(UserWarning, match="5 cells have no RNA"):
        trained.differential_abundance(mdata, sample_key="sample")
    missing = mdata.obsm["da_log_probs"].isna().all(axis=1)
    assert set(missing.index[missing]) == set(mdata.obs_names) - set(mdata["rna"].obs_names)


def test_the_models_own_data_is_the_default(on_adata: TOTALVI) -> None:
    on_adata.differential_abundance(sample_key="donor")
    assert on_adata.adata is not None
    assert on_adata.adata.obsm["da_log_probs"].shape == (20, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, MissingKeyError, r"sample_key: expected a column of obs \(.*kind, donor\), found None; name one"),
        ({"sample_key": "lane"}, KeyError, r"found 'lane'; name one"),
        (
            {"sample_key": "donor", "dof": 0},
            ArgumentError,
            r"dof: expected a number above 0, found 0; give such .*or None",
        ),
        ({"sample_key": "donor", "dof": "x"}, ArgumentError, r"dof: expected a number above 0, found 'x'; give"),
        ({"sample_key": "donor", "num_cells_posterior": 0}, ArgumentError, "num_cells_posterior: expected a whole"),
        ({"sample_key": "donor", "batch_size": 0}, ArgumentError, "batch_size: expected a whole"),
    ],
)
def test_what_is_refused(on_adata: TOTALVI, options: dict[str, Any], error: type[Exception], message: str) -> None:
    adata = draw_adata()
    with pytest.raises(error, match=message):
        on_adata.differential_abundance(adata, **options)
    assert "da_log_probs" not in adata.obsm


def test_a_sample_without_cells(on_adata: TOTALVI) -> None:
    adata, other = draw_adata(), draw_adata()
    adata.obs["sample"], other.obs["sample"] = "a", "b"
    with pytest.raises(ArgumentError, match=r"samples that adata has cells of \(a\), found 'b'; give all cells"):
        on_adata.differential_abundance(adata, other, sample_key="sample")
    with pytest.raises(ArgumentError, match="dof: expected a number above 0"):
        on_adata.get_aggregated_posterior(dof=-1)
