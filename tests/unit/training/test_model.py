"""TotalVI and TotalANVI as users meet them: train, predict, locate; and questions that make no sense."""

from __future__ import annotations

from typing import Any

import mudata as md
import numpy as np
import pytest
from tests.support.reference_cells import FAST, draw_adata

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError, simulate

LABELS = ["alpha 1", "alpha 2", "beta 1", "beta 2"]


def test_history_holds_a_frame_for_each_metric(trained: TOTALANVI) -> None:
    expected = {f"{name}_{split}" for split in ("train", "validation") for name in ("elbo", "reconstruction_loss")}
    expected |= {f"{name}_{split}" for split in ("train", "validation") for name in ("kl_local",)}
    expected |= {f"reconstruction_loss_{m}_{s}" for m in ("gene", "protein") for s in ("train", "validation")}
    expected |= {"validation_accuracy", "validation_f1_score", "validation_calibration_error", "kl_weight"}
    expected |= {"train_loss", "train_classification_loss", "validation_classification_loss"}
    assert expected <= trained.history.keys()
    for name, frame in trained.history.items():
        assert frame.columns.tolist() == [name]
        assert frame.index.name == "epoch"
        assert frame.index.tolist() == list(range(20))
        assert np.isfinite(frame.to_numpy()).all(), name
    elbo = trained.history["elbo_validation"].to_numpy().ravel()
    assert elbo[-1] < 0.5 * elbo[0]


def test_labels_that_were_hidden_are_found(trained: TOTALANVI, reference: md.MuData) -> None:
    obs = reference["rna"].obs
    hidden = (obs["known"] == "unknown").to_numpy()
    assert hidden.sum() > 100
    accuracy = (trained.predict() == obs["cell_type"].to_numpy())[hidden].mean()
    assert accuracy > 0.85


def test_accuracy_on_validation_cells_is_that_of_predict(trained: TOTALANVI, reference: md.MuData) -> None:
    obs = reference["rna"].obs.iloc[trained.validation_indices]
    known = obs["known"] != "unknown"
    # Training scores a draw from the posterior; with this few cells the two differ by a few of them at most.
    accuracy = (trained.predict(indices=trained.validation_indices) == obs["known"])[known].mean()
    assert trained.history["validation_accuracy"].iloc[-1, 0] == pytest.approx(accuracy, abs=0.15)


def test_hard_and_soft_predictions_agree(trained: TOTALANVI, reference: md.MuData) -> None:
    soft = trained.predict(soft=True)
    assert soft.columns.tolist() == LABELS
    assert soft.index.equals(reference["rna"].obs_names)
    assert np.allclose(soft.sum(axis=1), 1.0, atol=1e-5)
    assert np.array_equal(trained.predict(), soft.idxmax(axis=1))
    drawn = trained.predict(soft=True, use_posterior_mean=False)
    assert not np.array_equal(drawn, soft)


def test_predictions_do_not_depend_on_company(trained: TOTALANVI) -> None:
    every = trained.predict(soft=True)
    some = trained.predict(soft=True, indices=[400, 3, 77], batch_size=2)
    assert some.index.tolist() == every.index[[400, 3, 77]].tolist()
    assert np.allclose(some, every.iloc[[400, 3, 77]], atol=1e-5)
    mask = np.zeros(500, bool)
    mask[[3, 77]] = True
    assert np.allclose(trained.predict(soft=True, indices=mask), every.iloc[[3, 77]], atol=1e-5)


def test_latent(trained: TOTALANVI) -> None:
    latent = trained.get_latent_representation()
    assert latent.shape == (500, 8)
    assert np.array_equal(trained.get_latent_representation(), latent)
    drawn = trained.get_latent_representation(give_mean=False)
    assert not np.array_equal(drawn, latent)
    assert np.corrcoef(drawn.ravel(), latent.ravel())[0, 1] > 0.5


def test_other_cells_of_the_same_tissue(trained: TOTALANVI) -> None:
    """Without labels, in another order of features, and from a file's worth of other cells."""
    others = simulate(n_cells=700, n_genes=120, n_proteins=12, n_labels=4, seed=3)
    truth = others["rna"].obs["cell_type"].to_numpy()
    rna = others["rna"][:, ::-1].copy()
    with md.set_options(pull_on_update=False):
        shuffled = md.MuData({"rna": rna, "prot": others["prot"]})
    assert (trained.predict(shuffled) == truth).mean() > 0.85


def test_cells_without_proteins(trained: TOTALANVI, reference: md.MuData) -> None:
    with md.set_options(pull_on_update=False):
        rna_only = md.MuData({"rna": reference["rna"].copy(), "prot": reference["prot"][:5].copy()})
    truth = reference["rna"].obs["cell_type"].to_numpy()
    predicted = trained.predict(rna_only)
    assert np.array_equal(predicted[:5], trained.predict()[:5])
    assert (predicted == truth).mean() > 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gene_list": ["nope", "nix"]}, "expected genes of the model, found 'nope', 'nix': see registry.genes"),
        ({"protein_list": ["CD4"]}, "expected proteins of the model, found 'CD4'"),
        ({"transform_batch": "batch9"}, r"among the model's batches \(batch1, batch2\), found 'batch9'"),
        ({"transform_batch": 2}, "found 2"),
        ({"transform_batch": np.int64(-1)}, "found"),
        ({"n_samples": 0}, "n_samples must be at least 1, found 0"),
        ({"indices": [0, 500]}, "lie within the 500 cells, found 500"),
        ({"indices": [-1]}, "lie within the 500 cells, found -1"),
        ({"indices": np.ones(7, bool)}, "expected a mask of the 500 cells, found one of 7"),
        ({"indices": []}, "expected cells, found none"),
        ({"adata": draw_adata()}, "expected MuData, as set up with setup_mudata"),
    ],
)
def test_questions_that_make_no_sense(trained: TOTALANVI, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        trained.get_normalized_expression(**options)
    assert caught.value.exit_code == 2


def test_options_that_do_not_exist(reference: md.MuData) -> None:
    with pytest.raises(ArgumentError, match=r"unknown model options n_layers: known are .*n_layers_encoder"):
        TOTALVI(reference, n_layers=2)
    model = TOTALVI(reference, n_hidden=8, empirical_protein_background_prior=False)
    with pytest.raises(ArgumentError, match="unknown training options momentum: known are "):
        model.train(plan_kwargs={"momentum": 0.9}, **FAST)
    assert not model.is_trained
    with pytest.raises(ArgumentError, match="the split of the cells is known after train"):
        _ = model.validation_indices


def test_a_model_without_data_needs_some(trained: TOTALANVI, reference: md.MuData, tmp_path: Any) -> None:
    trained.save(tmp_path / "saved")
    loaded = TOTALANVI.load(tmp_path / "saved")
    for question in (loaded.predict, loaded.get_latent_representation, loaded.train):
        with pytest.raises(ArgumentError, match="this model was loaded without data: give `adata`"):
            question()
    assert np.array_equal(loaded.predict(reference), trained.predict())


def test_what_it_says_of_itself(trained: TOTALANVI, reference: md.MuData) -> None:
    assert repr(trained) == "TOTALANVI(120 genes, 12 proteins, 2 batches, 4 labels, n_latent=8, trained)"
    assert repr(TOTALVI(reference, n_hidden=8, empirical_protein_background_prior=False)).endswith("not trained)")
    assert trained.n_cells == 500
    together = np.concatenate([trained.train_indices, trained.validation_indices, trained.test_indices])
    assert np.array_equal(np.sort(together), np.arange(500))
