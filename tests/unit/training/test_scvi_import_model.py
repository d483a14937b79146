"""An imported model is a model like any other: it answers, is saved and loaded, and holds cells of its reference."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from tests.reference.saves import Save, altered, save_named

from totalanvi.training import TOTALANVI, TOTALVI, CheckpointError, RegistrationError
from totalanvi.training.scvi_import.checkpoint import import_scvi, scvi_checkpoint
from totalanvi.training.scvi_import.reference import data_beside
from totalanvi.training.scvi_import.saves import read_save

TOTALANVI_SAVE = save_named("totalanvi")
COVARIATES = save_named("totalvi_covariates")


def with_data_beside(save: Save, folder: Path) -> Path:
    """What ``save(..., save_anndata=True)`` of scvi-tools leaves."""
    folder.mkdir()
    shutil.copy(save.folder / "model.pt", folder / "model.pt")
    save.data().write_h5ad(folder / "adata.h5ad")
    return folder


def test_a_model_without_data_answers_for_data_that_is_given() -> None:
    model = import_scvi(TOTALANVI_SAVE.folder)
    assert isinstance(model, TOTALANVI)
    assert model.is_trained
    assert model.adata is None
    assert "72" not in repr(model)
    data = TOTALANVI_SAVE.data()
    known = import_scvi(TOTALANVI_SAVE.folder, data)
    np.testing.assert_array_equal(model.get_latent_representation(data), known.get_latent_representation())


def test_a_totalvi_becomes_a_totalvi() -> None:
    model = import_scvi(save_named("totalvi").folder)
    assert type(model) is TOTALVI


def test_genes_are_found_by_name() -> None:
    model, data = import_scvi(TOTALANVI_SAVE.folder), TOTALANVI_SAVE.data()
    reordered = data[:, ::-1].copy()
    np.testing.assert_array_equal(model.get_latent_representation(reordered), model.get_latent_representation(data))


def test_it_is_saved_and_loaded_like_our_own(tmp_path: Path) -> None:
    data = TOTALANVI_SAVE.data()
    model = import_scvi(TOTALANVI_SAVE.folder, data)
    model.save(tmp_path / "checkpoint")
    again = TOTALANVI.load(tmp_path / "checkpoint", adata=data)
    np.testing.assert_array_equal(again.predict(soft=True), model.predict(soft=True))
    assert again.registry == model.registry
    assert again.module.config == model.module.config


def test_it_can_be_trained_on() -> None:
    model = import_scvi(TOTALANVI_SAVE.folder, TOTALANVI_SAVE.data())
    before = model.module.encoder.rna_in.weight.detach().clone()
    model.train(max_epochs=1, accelerator="cpu")
    assert not torch.equal(before, model.module.encoder.rna_in.weight)


# Cells of the reference


def test_without_data_no_cells_travel_with_a_checkpoint() -> None:
    checkpoint = scvi_checkpoint(TOTALANVI_SAVE.folder)
    assert checkpoint.sample is None
    assert checkpoint.split is None
    assert checkpoint.training["by"] == "scvi-tools 1.5.1"


@pytest.mark.parametrize("save", [TOTALANVI_SAVE, save_named("totalanvi_mudata")], ids=str)
def test_with_data_those_that_trained_and_those_that_did_not_travel(save: Save) -> None:
    split = read_save(save.folder).split
    assert split is not None
    checkpoint = scvi_checkpoint(save.folder, save.data())
    assert checkpoint.sample is not None
    cells = import_scvi(save.folder, save.data())._reference_cells()
    for sample, positions in (
        (checkpoint.sample.landmarks, split.train),
        (checkpoint.sample.held_out, split.validation),
    ):
        assert len(sample) == len(positions)
        np.testing.assert_array_equal(sample.rna.toarray(), cells[positions].rna.toarray())
    assert checkpoint.training["n_cells"] == 72
    assert checkpoint.training["n_labelled"] == int((cells.label >= 0).sum())


def test_cells_of_a_mudata_are_counted_in_the_order_of_the_whole() -> None:
    save = save_named("totalanvi_mudata")
    data = save.data()
    data.mod["rna"] = data.mod["rna"][::-1].copy()
    expected = scvi_checkpoint(save.folder, save.data()).sample
    found = scvi_checkpoint(save.folder, data).sample
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found.held_out.rna.toarray(), expected.held_out.rna.toarray())


def test_data_beside_the_model_is_taken(tmp_path: Path) -> None:
    folder = with_data_beside(TOTALANVI_SAVE, tmp_path / "saved")
    model = import_scvi(folder)
    assert model.adata is not None
    assert model.adata.n_obs == 72
    assert data_beside(folder, prefix="other_") is None


def test_cells_are_drawn_where_the_save_does_not_tell_which_trained(tmp_path: Path) -> None:
    save = altered(TOTALANVI_SAVE, tmp_path, train_indices_=None)
    with pytest.warns(UserWarning, match="does not tell which of these cells trained the model: a tenth"):
        checkpoint = scvi_checkpoint(save, TOTALANVI_SAVE.data())
    assert checkpoint.sample is not None
    assert (len(checkpoint.sample.landmarks), len(checkpoint.sample.held_out)) == (65, 7)
    with pytest.warns(UserWarning, match="does not tell"):
        scvi_checkpoint(TOTALANVI_SAVE.folder, TOTALANVI_SAVE.data()[:50].copy())


def test_what_each_batch_measured_is_seen_in_the_data() -> None:
    save = save_named("totalvi_panels")
    assert scvi_checkpoint(save.folder).registry.batch_proteins == ((True,) * 6, (True,) * 6)
    data = save.data()
    only_short = data[(data.obs["batch"] == "run_1") | (data.obs["panel"] == "short")].copy()
    with pytest.warns(UserWarning, match="does not tell"):
        registry = scvi_checkpoint(save.folder, only_short).registry
    assert registry.batch_proteins == ((True,) * 6, (True,) * 4 + (False,) * 2)


def test_ensembl_ids_are_taken_from_the_data() -> None:
    data = TOTALANVI_SAVE.data()
    data.var["gene_id"] = [f"ENSG{i:011d}" for i in range(25)]
    registry = scvi_checkpoint(TOTALANVI_SAVE.folder, data[:, ::-1].copy()).registry
    assert registry.ensembl_ids == tuple(f"ENSG{i:011d}" for i in range(25))
    assert registry.gene_symbols is None


def test_covariates_that_a_query_lacks_are_those_of_the_reference() -> None:
    data = COVARIATES.data()
    usual = import_scvi(COVARIATES.folder, data).module.usual_covariates
    assert usual.continuous is not None
    np.testing.assert_allclose(usual.continuous, data.obs[["age", "stress"]].mean(), rtol=1e-5)
    unknown = import_scvi(COVARIATES.folder).module.usual_covariates
    assert unknown.categorical is not None
    np.testing.assert_allclose(unknown.categorical, [1 / 2, 1 / 2, 1, 1 / 3, 1 / 3, 1 / 3])


# What does not fit


def test_a_model_that_was_not_trained_stays_so(tmp_path: Path) -> None:
    save = altered(TOTALANVI_SAVE, tmp_path, is_trained_=False)
    model = import_scvi(save, TOTALANVI_SAVE.data())
    assert not model.is_trained
    assert scvi_checkpoint(save, TOTALANVI_SAVE.data()).sample is None


def test_weights_that_do_not_fit_the_options_are_refused(tmp_path: Path) -> None:
    options = {"non_kwargs": {"n_latent": 5}, "kwargs": {"model_kwargs": {"n_hidden": 8}}}
    save = altered(TOTALANVI_SAVE, tmp_path, init_params_=options)
    with pytest.raises(
        CheckpointError, match=r"with these options and names, found others .*; load the model and save"
    ):
        import_scvi(save)


def without_counts(data: ad.AnnData) -> ad.AnnData:
    data.X = data.X * 0
    return data


def without_a_gene(data: ad.AnnData) -> ad.AnnData:
    return data[:, 1:].copy()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_counts, "found zeros only, as in data that scvi-tools has minified; give the data"),
        (without_a_gene, "GENE0"),
        (lambda data: save_named("totalvi_mudata").data(), "Expected AnnData"),
    ],
)
def test_data_of_something_else_is_refused(change: object, expected: str) -> None:
    data = change(TOTALANVI_SAVE.data())  # type: ignore[operator]
    with pytest.raises(RegistrationError, match=expected):
        scvi_checkpoint(TOTALANVI_SAVE.folder, data)
