"""Data that takes the place of a model's own, and data that was set up for another model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from tests.support.reference_cells import PROTEINS, draw_adata

from totalanvi.training import TOTALANVI, TOTALVI, MissingKeyError, RegistrationError
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.registration.setup_note import read_setup


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the small reference, trained for a moment."""
    adata = draw_adata()
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind")
    model = TOTALANVI(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, progress=False)
    folder = tmp_path_factory.mktemp("model") / "saved"
    model.save(folder, save_anndata=True)
    return folder


def test_other_data_takes_the_place_of_a_models_own(saved_model: Path) -> None:
    model = TOTALANVI.load(saved_model)
    before = model.predict(soft=True)
    other = draw_adata()[[5, 2, 0]].copy()
    model.adata = other
    assert model.adata is other
    after = model.predict(soft=True)
    assert after.index.tolist() == other.obs_names.tolist()
    np.testing.assert_allclose(after, before.iloc[[5, 2, 0]], atol=1e-6)


def test_the_cells_that_travel_stay_those_that_it_was_trained_on(saved_model: Path, tmp_path: Path) -> None:
    model = TOTALANVI.load(saved_model)
    model.train(max_epochs=1, progress=False)
    model.adata = draw_adata()[[5, 2, 0]].copy()
    model.save(tmp_path / "again")
    kept, expected = (read_checkpoint(folder).sample for folder in (tmp_path / "again", saved_model))
    assert kept is not None
    assert expected is not None
    assert len(kept.landmarks) == len(expected.landmarks)


def test_data_that_is_not_like_the_reference_leaves_the_model_as_it_was(saved_model: Path) -> None:
    model = TOTALANVI.load(saved_model)
    before = model.adata
    with pytest.raises(RegistrationError, match="gene"):
        model.adata = draw_adata()[:, :2].copy()
    assert model.adata is before
    assert len(model.predict()) == len(draw_adata())


def test_a_query_set_up_for_another_model_is_refused(saved_model: Path) -> None:
    model = TOTALANVI.load(saved_model)
    query = draw_adata()
    query.obs["site"] = "here"
    TOTALANVI.setup_anndata(query, PROTEINS, batch_key="site", labels_key="kind")
    with pytest.raises(RegistrationError, match=r"batch_key='donor', found batch_key='site'; call setup_anndata\(\)"):
        model.predict(query)


@pytest.mark.parametrize("labels", ["kind", None])
def test_a_query_set_up_alike_is_taken_with_labels_or_without(saved_model: Path, labels: str | None) -> None:
    query: ad.AnnData = draw_adata()
    TOTALANVI.setup_anndata(query, PROTEINS, batch_key="donor", labels_key=labels)
    model = TOTALANVI.load(saved_model)
    assert model.predict(query).tolist() == model.predict().tolist()


def test_a_model_that_could_not_be_made_leaves_the_note_on_the_data_as_it_was() -> None:
    adata = draw_adata()
    TOTALVI.setup_anndata(adata, PROTEINS, batch_key="donor")
    model = TOTALVI(adata, n_latent=2, n_hidden=8, empirical_protein_background_prior=False)
    model.train(max_epochs=1, progress=False)
    with pytest.raises(MissingKeyError, match="nope"):
        TOTALANVI.from_totalvi_model(model, "unknown", labels_key="nope")
    assert TOTALVI(adata, n_latent=2, n_hidden=8).adata is adata
    assert read_setup(adata).labels_key is None


def test_loading_draws_nothing(saved_model: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    TOTALANVI.load(saved_model)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", ["link", "storage", "virtual"])
def test_data_that_leads_into_other_files_is_refused(saved_model: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    shutil.copytree(saved_model, tmp_path / "copy")
    with h5py.File(tmp_path / "copy" / "adata.h5ad", "a") as file:
        if kind == "link":
            file["uns/there"] = h5py.ExternalLink(str(tmp_path / "secret.bin"), "/")
        elif kind == "storage":
            file.create_dataset("uns/there", (8,), "f8", external=[(str(tmp_path / "secret.bin"), 0, 64)])
        else:
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "data", (4,))
            file.create_virtual_dataset("uns/there", layout)
    with pytest.raises(RegistrationError, match=r"that holds all of its data itself; found .*, at '/uns/there'"):
        TOTALANVI.load(tmp_path / "copy")


QUESTIONS: dict[str, Callable[[TOTALANVI], Any]] = {
    "latent": lambda model: pd.DataFrame(model.get_latent_representation()),
    "labels": lambda model: model.predict(soft=True),
    "expression": lambda model: model.get_normalized_expression()[1],
    "foreground": lambda model: model.get_protein_foreground_probability(),
    "one cell": lambda model: model.predict(indices=[1], soft=True),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("cells", [[5, 2, 0], [3, 1, 2, *range(4, 20), 0]], ids=["fewer", "moved"])
def test_data_that_is_subset_in_place_is_read_again(saved_model: Path, question: str, cells: list[int]) -> None:
    model, other = (TOTALANVI.load(saved_model, adata=draw_adata()) for _ in range(2))
    assert model.adata is not None
    model.adata._inplace_subset_obs(cells)
    other.adata = draw_adata()[cells].copy()
    answers = []
    for each in (model, other):
        torch.manual_seed(0)
        answers.append(QUESTIONS[question](each))
    pd.testing.assert_frame_equal(*answers)
    assert model.summary_stats["n_cells"] == len(model.labels_) == len(cells)


def test_a_model_compares_and_trains_on_what_is_left_of_its_data(saved_model: Path) -> None:
    model = TOTALANVI.load(saved_model, adata=draw_adata())
    assert model.adata is not None
    model.adata._inplace_subset_obs(np.arange(12))
    assert len(model.differential_expression(groupby="kind", group1="B", group2="T", silent=True)) == 9
    model.train(max_epochs=1, progress=False)
    assert len(model.train_indices) + len(model.validation_indices) == 12


def test_genes_that_are_left_out_in_place_are_known_still(saved_model: Path) -> None:
    model = TOTALANVI.load(saved_model, adata=draw_adata())
    before = model.predict(soft=True)
    assert model.adata is not None
    model.adata._inplace_subset_var(np.arange(2))
    pd.testing.assert_frame_equal(model.predict(soft=True), before)
    model.adata._inplace_subset_obs(np.arange(2))
    with pytest.raises(RegistrationError, match="Expected the model's 6 genes, found 4 missing"):
        model.predict()


def test_cells_that_are_renamed_are_the_same_cells(saved_model: Path) -> None:
    model = TOTALANVI.load(saved_model, adata=draw_adata())
    before = model.predict(soft=True)
    assert model.adata is not None
    model.adata.obs_names = [f"{name}-1" for name in model.adata.obs_names]
    after = model.predict(soft=True)
    assert after.index.tolist() == model.adata.obs_names.tolist()
    np.testing.assert_array_equal(after, before)
