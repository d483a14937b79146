"""Which genes and proteins a prediction rests on: complete, cell by cell, and true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_GENES, N_PROTEINS, TINY, tiny_model

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, ArgumentError, simulate
from totalanvi.training.data import Cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.results.attribution import attributions
from totalanvi.training.results.attribution_options import AttributionOptions
from totalanvi.training.results.posterior import posteriors
from totalanvi.training.simulation.tissue import draw_tissue

LABELS = ["alpha 1", "alpha 2", "beta 1", "beta 2"]
SOME = list(range(0, 400, 10))
N_FEATURES = 160 + 12


@pytest.fixture(scope="module")
def found(trained: TOTALANVI) -> pd.DataFrame:
    """Attributions of every cell to its likeliest label. Not to be changed."""
    return trained.get_attributions()


def logits(module: Any, cells: Cells) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        batches = [module.classify(module.transform(q.z.mean)).numpy() for q in posteriors(module, cells, 256)]
    return np.concatenate(batches)


def counts_like(cells: Cells, counts: npt.NDArray[np.float32]) -> Cells:
    """The same cells with other counts, (genes + proteins,)."""
    rows = np.tile(counts, (len(cells), 1))
    n_genes = cells.rna.shape[1]
    return replace(cells, rna=sp.csr_matrix(rows[:, :n_genes]), protein=rows[:, n_genes:] * cells.measured)


def gains(module: Any, cells: Cells, baseline: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How much the logits of cells differ from those of the baseline, (cells, labels)."""
    return logits(module, cells) - logits(module, counts_like(cells, baseline))


def share_missed(
    attributed: npt.NDArray[np.float32], gain: npt.NDArray[np.float32], codes: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """How far the attributions of each cell are from their sum, in shares of it."""
    expected = gain[np.arange(len(gain)), codes]
    return np.abs(attributed.sum(axis=1) - expected) / np.abs(expected)


def test_attributions_are_complete_for_every_cell(trained: TOTALANVI, found: pd.DataFrame) -> None:
    gain = gains(trained.module, trained._reference_cells(), np.zeros(N_FEATURES, np.float32))
    codes = pd.Index(LABELS).get_indexer(trained.predict())
    assert share_missed(found.to_numpy(), gain, codes).max() < 0.01


@pytest.mark.parametrize("label", LABELS)
def test_they_are_complete_for_every_label(trained: TOTALANVI, label: str) -> None:
    cells = trained._reference_cells()[np.array(SOME)]
    gain = gains(trained.module, cells, np.zeros(N_FEATURES, np.float32))
    codes = np.full(len(cells), LABELS.index(label))
    attributed = trained.get_attributions(indices=SOME, target=label).to_numpy()
    assert share_missed(attributed, gain, codes).max() < 0.01


def test_they_are_complete_from_another_baseline(trained: TOTALANVI) -> None:
    """What makes a cell an alpha 1 and not the average beta 2."""
    everyone = trained._reference_cells()
    beta = everyone[everyone.label == 3]
    genes, proteins = np.asarray(beta.rna.mean(axis=0), np.float32).ravel(), beta.protein.mean(axis=0)
    positions = np.flatnonzero(everyone.label == 0)[:30]
    attributed = trained.get_attributions(indices=positions, target="alpha 1", baseline=(genes, proteins))
    gain = gains(trained.module, everyone[positions], np.concatenate([genes, proteins]))
    assert share_missed(attributed.to_numpy(), gain, np.zeros(30, int)).max() < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"latent_distribution": "ln"},
        {"norm_encoder": "batch", "n_layers_encoder": 2},
        {"use_observed_lib_size": False},
        {"log_variational": False, "linear_classifier": True},
        {"encode_covariates": False, "protein_mean": "all"},
    ],
)
def test_they_are_complete_whatever_the_architecture(options: dict[str, Any]) -> None:
    module = tiny_model(labels=3, **options)
    cells = draw_cells(n_cells=30, n_genes=N_GENES, n_proteins=N_PROTEINS)
    assert not cells.measured.all()
    zeros = np.zeros(N_GENES + N_PROTEINS, np.float32)
    codes = np.arange(30) % 3
    batches = attributions(module, cells, codes, AttributionOptions(zeros, n_steps=20, batch_size=200))
    attributed = np.concatenate(list(batches))
    assert share_missed(attributed, gains(module, cells, zeros), codes).max() < 0.01
    assert not attributed[:, N_GENES:][~cells.measured].any()
    assert attributed[:, N_GENES:][cells.measured].any()


def test_cells_whose_attributions_are_not_complete_are_counted() -> None:
    """A logit that is no number gains nothing that anything could sum to."""
    module = tiny_model(labels=3, linear_classifier=True)
    with torch.no_grad():
        module.classifier.bias[1] = float("nan")
    cells = draw_cells(n_cells=30, n_genes=N_GENES, n_proteins=N_PROTEINS)
    options = AttributionOptions(np.zeros(N_GENES + N_PROTEINS, np.float32), n_steps=20, batch_size=200)
    with pytest.warns(
        UserWarning, match=r"sum to what the logit gains, to 1 %, found 10 of 30 cells .*; give more steps"
    ):
        list(attributions(module, cells, np.arange(30) % 3, options))


def test_covariates_are_no_part_of_the_path() -> None:
    dims = replace(TINY, n_labels=3, n_categories=(2,), n_continuous=1)
    torch.manual_seed(0)
    module = TotalANVAE(dims, ModelConfig(n_latent=3, n_hidden=8))
    cells, rng = draw_cells(n_cells=10, n_genes=N_GENES, n_proteins=N_PROTEINS), np.random.default_rng(0)
    cells = replace(
        cells, categorical=rng.integers(2, size=(10, 1)), continuous=rng.normal(size=(10, 1)).astype(np.float32)
    )
    zeros, codes = np.zeros(N_GENES + N_PROTEINS, np.float32), np.zeros(10, int)
    (attributed,) = attributions(module, cells, codes, AttributionOptions(zeros, n_steps=20, batch_size=200))
    assert share_missed(attributed, gains(module, cells, zeros), codes).max() < 0.01
    moved = replace(cells, continuous=cells.continuous + 1.0)
    (other,) = attributions(module, moved, codes, AttributionOptions(zeros, n_steps=20, batch_size=200))
    assert not np.allclose(attributed, other, atol=1e-3)


def test_the_highest_attributions_are_those_of_true_markers(trained: TOTALANVI, truth: npt.NDArray[np.str_]) -> None:
    tissue = draw_tissue(np.random.default_rng([0, 1]), n_genes=160, n_proteins=12, n_labels=4, n_batches=2)
    assert sorted(tissue.labels[:4]) == LABELS
    assert list(trained.registry.genes + trained.registry.proteins) == tissue.genes + tissue.proteins
    effect = tissue.centres @ tissue.loadings[:-2] + tissue.markers
    effect[:, tissue.encoding] += 1.8 * tissue.expressed
    expected = np.exp(tissue.abundance + effect)[:4]
    expected *= 0.25 * 160 / expected.sum(axis=1, keepdims=True)
    is_on = tissue.expressed[:4] > 0.5
    areas = []
    for code, label in enumerate(tissue.labels[:4]):
        others = np.delete(expected, code, axis=0).mean(axis=0)
        genes = np.log1p(expected[code]) - np.log1p(others) > 0.5
        markers = np.concatenate([genes, is_on[code] & ~is_on.all(axis=0)])
        assert markers.mean() < 0.1
        mean = trained.get_attributions(indices=np.flatnonzero(truth == label), target=label).mean(axis=0).to_numpy()
        assert markers[np.argsort(-mean)[:10]].mean() >= 0.5, label
        areas.append(roc_auc_score(markers, mean))
    assert np.mean(areas) > 0.8


def test_the_table(found: pd.DataFrame, reference_mdata: md.MuData) -> None:
    assert found.index.equals(reference_mdata["rna"].obs_names)
    assert found.columns.names == ["modality", "feature"]
    assert found["rna"].columns.tolist() == reference_mdata["rna"].var_names.tolist()
    assert found["protein"].columns.tolist() == reference_mdata["prot"].var_names.tolist()
    assert (found.dtypes == np.float32).all()


def test_attributions_do_not_depend_on_company(trained: TOTALANVI, found: pd.DataFrame) -> None:
    alone = trained.get_attributions(indices=[399, 3, 77], batch_size=2)
    assert alone.index.tolist() == found.index[[399, 3, 77]].tolist()
    assert np.allclose(alone, found.iloc[[399, 3, 77]], atol=1e-3)


def test_more_steps_change_little(trained: TOTALANVI, found: pd.DataFrame) -> None:
    finer = trained.get_attributions(indices=SOME[:8], n_steps=200).to_numpy()
    coarse = found.iloc[SOME[:8]].to_numpy()
    assert (np.abs(finer - coarse).sum(axis=1) < 0.05 * np.abs(finer).sum(axis=1)).all()


def test_no_more_points_than_a_batch_go_through_the_network_at_once(trained: TOTALANVI) -> None:
    sizes: list[int] = []
    hook = trained.module.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0].protein)))
    try:
        trained.get_attributions(indices=SOME[:6], batch_size=5)
        assert max(sizes) == 5
        sizes.clear()
        trained.predict(indices=SOME[:6], ig_interpretability=True, batch_size=4, ig_args={"internal_batch_size": 15})
        assert max(sizes) == 15
    finally:
        hook.remove()


def test_training_is_not_disturbed(trained: TOTALANVI, found: pd.DataFrame) -> None:
    assert not trained.module.training
    assert all(parameter.grad is None for parameter in trained.module.parameters())
    assert any(parameter.requires_grad for parameter in trained.module.parameters())


# Ranked features


def test_features_are_ranked_by_their_mean(trained: TOTALANVI) -> None:
    """Every feature under its own name: theirs are the names of the features before."""
    rng = np.random.default_rng(0)
    attrs = rng.normal(size=(5, N_FEATURES))
    attrs[:, 160 + 3] += 50.0
    attrs[:, 0] += 40.0
    attrs[:, 159] -= 40.0
    ranked = trained.get_ranked_features(attrs=attrs)
    assert ranked.columns.tolist() == [
        "feature",
        "feature_idx",
        "modality",
        "attribution_mean",
        "attribution_std",
        "cells",
    ]
    genes, proteins = trained.registry.genes, trained.registry.proteins
    assert ranked.iloc[0][["feature", "feature_idx", "modality"]].tolist() == [proteins[3], 163, "protein"]
    assert ranked.iloc[1][["feature", "feature_idx", "modality"]].tolist() == [genes[0], 0, "rna"]
    assert ranked.iloc[-1][["feature", "feature_idx", "modality"]].tolist() == [genes[159], 159, "rna"]
    order = ranked["feature_idx"].to_numpy()
    assert sorted(order) == list(range(N_FEATURES))
    assert np.allclose(ranked["attribution_mean"], attrs.mean(axis=0)[order])
    assert np.allclose(ranked["attribution_std"], attrs.std(axis=0)[order])
    assert ranked["attribution_mean"].is_monotonic_decreasing
    assert (ranked["cells"] == 5).all()


def test_prediction_brings_the_ranked_features_of_its_labels(trained: TOTALANVI) -> None:
    labels, ranked = trained.predict(indices=SOME, ig_interpretability=True, batch_size=100)
    assert np.array_equal(labels, trained.predict(indices=SOME))
    expected = trained.get_ranked_features(attrs=trained.get_attributions(indices=SOME))
    by_feature = [frame.sort_values("feature_idx", ignore_index=True) for frame in (ranked, expected)]
    pd.testing.assert_frame_equal(*by_feature, atol=1e-3)
    soft, _ = trained.predict(indices=SOME, soft=True, ig_interpretability=True, ig_args={"n_steps": 4})
    pd.testing.assert_frame_equal(soft, trained.predict(indices=SOME, soft=True))


def test_arguments_that_scripts_give_to_captum(trained: TOTALANVI) -> None:
    captum = {"n_steps": 50, "method": "riemann_trapezoid", "internal_batch_size": 64}
    captum["baselines"] = (torch.ones(1, 160), 2.0)
    _, ranked = trained.predict(indices=[3], ig_interpretability=True, ig_args=captum)
    attrs = trained.get_attributions(indices=[3], n_steps=50, baseline=(1.0, np.full(12, 2.0)))
    expected = trained.get_ranked_features(attrs=attrs)
    assert np.allclose(ranked["attribution_mean"], expected["attribution_mean"], atol=1e-3)
    assert (ranked["attribution_std"] == 0.0).all()


def test_other_cells_without_labels(trained: TOTALANVI) -> None:
    query = simulate(n_cells=12, n_genes=160, n_proteins=12, n_labels=4, seed=1)
    del query["rna"].obs["cell_type"], query["prot"].obs["cell_type"], query.obs["cell_type"]
    with not_pulling():
        query = md.MuData({"rna": query["rna"], "prot": query["prot"][:6].copy()})
    found = trained.get_attributions(query)
    assert found["protein"].iloc[:6].any(axis=None)
    assert not found["protein"].iloc[6:].any(axis=None)
    ranked = trained.get_ranked_features(query)
    assert (ranked["cells"] == 12).all()
    assert np.allclose(ranked["attribution_mean"], found.mean(axis=0).iloc[ranked["feature_idx"]], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"target": "gamma"},
            "target: expected one of the model's labels (alpha 1, alpha 2, beta 1, beta 2), found 'gam",
        ),
        ({"indices": []}, "Expected cells, found none"),
        ({"n_steps": 0}, "n_steps: expected a whole number of at least 1, found 0"),
        ({"baseline": 0.0}, "baseline: expected counts of 160 genes and of 12 proteins, found another shape"),
        ({"baseline": (np.zeros(12), np.zeros(160))}, "baseline: expected counts of 160 genes and of 12 proteins"),
        ({"baseline": (0.0, -1.0)}, "baseline: expected counts, found some below 0"),
    ],
)
def test_arguments_that_make_no_sense(trained: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        trained.get_attributions(**arguments)
    assert message in str(error.value)


def test_captum_arguments_that_make_no_sense(trained: TOTALANVI) -> None:
    with pytest.raises(ArgumentError, match=r"ig_args: expected n_steps, .*, found 'target'; leave it out"):
        trained.predict(ig_interpretability=True, ig_args={"target": 0})


@pytest.mark.parametrize("shape", [(5, 160), (172,), (0, 172)])
def test_attributions_of_another_shape(trained: TOTALANVI, shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="attrs: expected attributions of one cell or more, 172 features each"):
        trained.get_ranked_features(attrs=np.zeros(shape))
