"""Models built otherwise: other options, missing proteins, from totalVI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mudata as md
import numpy as np
import pytest
import torch
from tests.support.reference_cells import FAST, MODALITIES

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError, simulate

LABELS = ["alpha 1", "alpha 2", "beta 1", "beta 2"]


@pytest.mark.parametrize(
    "options",
    [
        {"gene_likelihood": "zinb"},
        {"latent_distribution": "ln"},
        {"use_observed_lib_size": False},
        {"norm_encoder": "batch", "norm_decoder": "batch"},
        {"encode_covariates": False, "linear_classifier": True, "label_prior": "learned"},
        {"n_enumerated_labels": 1, "n_layers_encoder": 1, "n_layers_decoder": 2},
    ],
    ids=lambda options: next(iter(options)),
)
def test_variants_train_and_answer(reference_mdata: md.MuData, options: dict[str, Any]) -> None:
    model = TOTALANVI(reference_mdata, n_latent=4, n_hidden=16, empirical_protein_background_prior=False, **options)
    model.train(max_epochs=2, batch_size=128, **FAST)
    assert np.isfinite(model.history["elbo_validation"].to_numpy()).all()
    genes, proteins = model.get_normalized_expression(library_size="latent", return_numpy=True, indices=range(30))
    assert np.isfinite(genes).all()
    assert np.isfinite(proteins).all()
    assert np.allclose(model.predict(soft=True).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.0, 0.5, 1.0, 1.0]),
        ({"n_epochs_kl_warmup": 4}, [0.0, 0.25, 0.5, 0.75]),
        ({"n_steps_kl_warmup": 6}, [1 / 6, 4 / 6, 1.0, 1.0]),
        ({"plan_kwargs": {"n_steps_kl_warmup": 6}}, [1 / 6, 4 / 6, 1.0, 1.0]),
        ({"plan_kwargs": {"n_epochs_kl_warmup": 4, "max_kl_weight": 0.5}}, [0.0, 0.125, 0.25, 0.375]),
    ],
)
def test_warm_up_by_default_and_as_told(
    reference_mdata: md.MuData, options: dict[str, Any], expected: list[float]
) -> None:
    """Three mini-batches an epoch; the weight that is reported is their mean over cells."""
    model = TOTALVI(reference_mdata, n_latent=4, n_hidden=8, empirical_protein_background_prior=False)
    model.train(max_epochs=4, batch_size=128, **FAST, **options)
    assert model.history["kl_weight"].iloc[:, 0].tolist() == pytest.approx(expected, abs=0.02)


def test_proteins_that_a_batch_lacks() -> None:
    """The adversary trains, and the missing protein is imputed rather than taken for zero."""
    lacking = simulate(n_cells=300, n_genes=160, n_proteins=12, n_labels=4, seed=1)
    rows = (lacking["prot"].obs["batch"] == "batch2").to_numpy()
    dense = lacking["prot"].X.toarray()
    dense[rows, 0] = 0
    lacking["prot"].X = dense
    TOTALVI.setup_mudata(lacking, batch_key="batch", modalities=MODALITIES)
    model = TOTALVI(lacking, n_latent=4, n_hidden=16, empirical_protein_background_prior=False)
    assert model.registry.has_missing_proteins
    model.train(max_epochs=6, batch_size=64, n_epochs_kl_warmup=6, **FAST)
    assert model._training["options"]["adversarial_classifier"] is True
    proteins = model.get_normalized_expression(include_protein_background=True, return_numpy=True)[1]
    assert proteins[rows, 0].mean() > 0.3 * proteins[~rows, 0].mean()


def test_totalanvi_starts_from_totalvi(trained_totalvi: TOTALVI) -> None:
    model = TOTALANVI.from_totalvi_model(trained_totalvi, "unknown", labels_key="cell_type")
    for name, weight in trained_totalvi.module.state_dict().items():
        assert torch.equal(model.module.state_dict()[name], weight), name
    assert model.registry.labels == tuple(LABELS)
    assert model.module.config == trained_totalvi.module.config
    assert np.array_equal(model.get_latent_representation(), trained_totalvi.get_latent_representation())

    background = model.module.background_pro_alpha.clone(), model.module.background_pro_log_beta.clone()
    decoder = model.module.protein_decoder.foreground_ratio.weight.clone()
    model.train(max_epochs=2, batch_size=128, **FAST)
    assert torch.equal(model.module.background_pro_alpha, background[0])
    assert torch.equal(model.module.background_pro_log_beta, background[1])
    assert not torch.equal(model.module.protein_decoder.foreground_ratio.weight, decoder)
    # The model that it came from is as it was.
    assert torch.equal(trained_totalvi.module.protein_decoder.foreground_ratio.weight, decoder)


def test_totalanvi_from_totalvi_with_other_data(trained_totalvi: TOTALVI) -> None:
    other = simulate(n_cells=200, n_genes=160, n_proteins=12, n_labels=4, seed=1)
    model = TOTALANVI.from_totalvi_model(
        trained_totalvi, "none", labels_key="cell_type", adata=other, linear_classifier=True
    )
    assert model.n_cells == model.n_labelled == 200
    assert model.module.config.linear_classifier
    renamed = simulate(n_cells=200, n_genes=160, n_proteins=12, n_labels=4, seed=1)
    renamed["rna"].obs["batch"] = [f"new {batch}" for batch in renamed["rna"].obs["batch"]]
    with pytest.raises(
        ArgumentError, match="the totalVI model's 2 batches in their order, found 2 batches that are not"
    ):
        TOTALANVI.from_totalvi_model(trained_totalvi, "none", labels_key="cell_type", adata=renamed)
    fewer = simulate(n_cells=200, n_genes=150, n_proteins=12, n_labels=4, seed=1)
    with pytest.raises(ArgumentError, match="the totalVI model's 160 genes in their order, found 150 genes"):
        TOTALANVI.from_totalvi_model(trained_totalvi, "none", labels_key="cell_type", adata=fewer)


def test_totalanvi_from_what_is_no_trained_model(
    trained_totalvi: TOTALVI, reference_mdata: md.MuData, tmp_path: Path
) -> None:
    fresh = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    with pytest.raises(ArgumentError, match=r"Expected a trained totalVI model, found one that is not; call its train"):
        TOTALANVI.from_totalvi_model(fresh, "unknown", labels_key="cell_type")
    with pytest.raises(ArgumentError, match="Expected a labels_key, found none; name the column"):
        TOTALANVI.from_totalvi_model(trained_totalvi, "unknown")
    trained_totalvi.save(tmp_path / "saved")
    with pytest.raises(ArgumentError, match="loaded without any; give `adata`"):
        TOTALANVI.from_totalvi_model(TOTALVI.load(tmp_path / "saved"), "unknown", labels_key="cell_type")
