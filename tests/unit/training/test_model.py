"""TotalVI and TotalANVI as users meet them: train, predict, locate; and questions that make no sense."""

from __future__ import annotations

from typing import Any

import mudata as md
import numpy as np
import numpy.typing as npt
import pytest
from tests.support.reference_cells import FAST, draw_adata

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError, simulate
from totalanvi.training.fitting.split import split_cells

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
        assert frame.index.tolist() == list(range(15))
        assert np.isfinite(frame.to_numpy()).all(), name
    elbo = trained.history["elbo_validation"].to_numpy().ravel()
    assert elbo[-1] < 0.5 * elbo[0]


def test_labels_that_were_hidden_are_found(
    trained: TOTALANVI, reference_mdata: md.MuData, truth: npt.NDArray[np.str_]
) -> None:
    hidden = (reference_mdata["rna"].obs["cell_type"] == "unknown").to_numpy()
    found = trained.predict() == truth
    assert found[hidden].mean() > 0.75
    assert found[held_out()].mean() > 0.85


def held_out() -> npt.NDArray[np.intp]:
    """Positions of the cells that the shared checkpoint validated on."""
    return split_cells(400, train_size=0.7).validation


def test_accuracy_on_validation_cells_is_that_of_predict(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    labels = reference_mdata["rna"].obs["cell_type"].to_numpy()[held_out()]
    accuracy = (trained.predict(indices=held_out()) == labels)[labels != "unknown"].mean()
    # Training scores a draw from the posterior: a few cells change sides.
    assert trained.history["validation_accuracy"].iloc[-1, 0] == pytest.approx(accuracy, abs=0.1)


def test_hard_and_soft_predictions_agree(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    soft = trained.predict(soft=True)
    assert soft.columns.tolist() == LABELS
    assert soft.index.equals(reference_mdata["rna"].obs_names)
    assert np.allclose(soft.sum(axis=1), 1.0, atol=1e-5)
    assert np.array_equal(trained.predict(), soft.idxmax(axis=1))
    drawn = trained.predict(soft=True, use_posterior_mean=False)
    assert not np.array_equal(drawn, soft)


def test_predictions_do_not_depend_on_company(trained: TOTALANVI) -> None:
    every = trained.predict(soft=True)
    some = trained.predict(soft=True, indices=[399, 3, 77], batch_size=2)
    assert some.index.tolist() == every.index[[399, 3, 77]].tolist()
    assert np.allclose(some, every.iloc[[399, 3, 77]], atol=1e-5)
    mask = np.zeros(400, bool)
    mask[[3, 77]] = True
    assert np.allclose(trained.predict(soft=True, indices=mask), every.iloc[[3, 77]], atol=1e-5)


def test_latent(trained: TOTALANVI) -> None:
    latent = trained.get_latent_representation()
    assert latent.shape == (400, 8)
    assert np.array_equal(trained.get_latent_representation(), latent)
    drawn = trained.get_latent_representation(give_mean=False)
    assert not np.array_equal(drawn, latent)
    assert np.corrcoef(drawn.ravel(), latent.ravel())[0, 1] > 0.5


def test_other_cells_of_the_same_tissue(trained: TOTALANVI) -> None:
    """Without labels, in another order of features, and from a file's worth of other cells."""
    others = simulate(n_cells=500, n_genes=160, n_proteins=12, n_labels=4, seed=1)
    truth = others["rna"].obs["cell_type"].to_numpy()
    rna = others["rna"][:, ::-1].copy()
    with not_pulling():
        shuffled = md.MuData({"rna": rna, "prot": others["prot"]})
    assert (trained.predict(shuffled) == truth).mean() > 0.85


def test_cells_without_proteins(trained: TOTALANVI, reference_mdata: md.MuData, truth: npt.NDArray[np.str_]) -> None:
    with not_pulling():
        rna_only = md.MuData({"rna": reference_mdata["rna"].copy(), "prot": reference_mdata["prot"][:5].copy()})
    predicted = trained.predict(rna_only)
    assert np.array_equal(predicted[:5], trained.predict()[:5])
    assert (predicted == truth).mean() > 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gene_list": ["nope", "nix"]},
            "gene_list: expected genes of the model, found 'nope', 'nix'; `registry.genes` names",
        ),
        ({"protein_list": ["CD4"]}, "protein_list: expected proteins of the model, found 'CD4'"),
        (
            {"transform_batch": "batch9"},
            r"transform_batch: expected one of the model's batches \(batch1, batch2\), found 'batch9'",
        ),
        ({"transform_batch": 2}, "found 2"),
        ({"transform_batch": np.int64(-1)}, "found"),
        ({"n_samples": 0}, "n_samples: expected a whole number of at least 1, found 0"),
        ({"indices": [0, 400]}, "indices: expected 0 to 399, found 400"),
        ({"indices": [-1]}, "indices: expected 0 to 399, found -1"),
        (
            {"indices": [0.7]},
            "a mask of all 400, found values of type float64",
        ),
        ({"indices": ["cell1"]}, "indices: expected positions of cells"),
        ({"batch_size": float("nan")}, "batch_size: expected a whole number of at least 1, found nan"),
        ({"indices": np.ones(7, bool)}, "indices: expected a mask of the 400 cells, found one of 7"),
        ({"indices": []}, "Expected cells, found none"),
        ({"adata": draw_adata()}, "Expected MuData, as set up with setup_mudata"),
    ],
)
def test_questions_that_make_no_sense(trained: TOTALANVI, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        trained.get_normalized_expression(**options)
    assert caught.value.exit_code == 2


def test_options_that_do_not_exist(reference_mdata: md.MuData) -> None:
    with pytest.raises(ArgumentError, match=r"Expected model options out of .*n_layers_encoder.*, found n_layers; "):
        TOTALVI(reference_mdata, n_layers=2)
    model = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    with pytest.raises(ArgumentError, match=r"Expected training options out of .*, found momentum; "):
        model.train(plan_kwargs={"momentum": 0.9}, **FAST)
    assert not model.is_trained
    with pytest.raises(ArgumentError, match="which keeps no split; call train"):
        _ = model.validation_indices


def test_a_model_without_data_needs_some(trained: TOTALANVI, reference_mdata: md.MuData, tmp_path: Any) -> None:
    trained.save(tmp_path / "saved")
    loaded = TOTALANVI.load(tmp_path / "saved")
    for question in (loaded.predict, loaded.get_latent_representation, loaded.train):
        with pytest.raises(ArgumentError, match="the model was loaded without any; give `adata`"):
            question()
    assert np.array_equal(loaded.predict(reference_mdata), trained.predict())


def test_what_it_says_of_itself(trained: TOTALANVI, trained_totalvi: TOTALVI, reference_mdata: md.MuData) -> None:
    assert repr(trained) == "TOTALANVI(160 genes, 12 proteins, 2 batches, 4 labels, n_latent=8, trained)"
    assert repr(TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)).endswith("not trained)")
    assert trained.n_cells == 400
    parts = [getattr(trained_totalvi, f"{part}_indices") for part in ("train", "validation", "test")]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(400))
