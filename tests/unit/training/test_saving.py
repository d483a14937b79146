"""Arguments of ``save`` and ``load``: data beside a checkpoint, devices, and what has no meaning here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch
from tests.support.reference_cells import FAST, PROTEINS, draw_adata

from totalanvi.export.source import read_source
from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError, CheckpointError, RegistrationError
from totalanvi.training.devices import chosen_device


@pytest.fixture(scope="module")
def on_adata() -> TOTALANVI:
    """A model of 20 cells in an AnnData. Not to be changed."""
    adata = draw_adata()
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind", unlabeled_category="unknown")
    model = TOTALANVI(adata, n_latent=3, n_hidden=8)
    model.train(max_epochs=1, train_size=0.8, **FAST)
    return model


# Data beside


def test_data_that_cannot_be_written(tmp_path: Path) -> None:
    adata = draw_adata()
    adata.obs["day"] = pd.to_datetime(["2024-05-01"] * adata.n_obs)
    TOTALVI.setup_anndata(adata, PROTEINS)
    model = TOTALVI(adata, n_latent=3, n_hidden=8)
    with pytest.raises(
        ArgumentError, match=r"data and options that write_h5ad\(\) takes, found what it refuses .*Datetime"
    ):
        model.save(tmp_path / "saved", save_anndata=True)
    assert not list(tmp_path.iterdir())


def test_an_anndata_beside(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved", prefix="a_", save_anndata=True, compression="gzip")
    assert (tmp_path / "saved" / "a_adata.h5ad").exists()
    loaded = TOTALANVI.load(tmp_path / "saved", prefix="a_")
    assert isinstance(loaded.adata, ad.AnnData)
    assert np.array_equal(loaded.get_latent_representation(), on_adata.get_latent_representation())
    assert np.array_equal(loaded.validation_indices, on_adata.validation_indices)


def test_a_mudata_beside(trained: TOTALANVI, reference_mdata: md.MuData, tmp_path: Path) -> None:
    trained.save(tmp_path / "saved", save_anndata=True)
    loaded = TOTALANVI.load(tmp_path / "saved")
    assert isinstance(loaded.adata, md.MuData)
    assert loaded.adata["rna"].obs.equals(reference_mdata["rna"].obs)
    assert np.array_equal(loaded.predict(), trained.predict())


def test_without_data(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved", save_anndata=True)
    loaded = TOTALANVI.load(tmp_path / "saved", adata=False)
    assert loaded.adata is None
    with pytest.raises(ArgumentError, match="the model was loaded without any; give `adata`"):
        loaded.predict()
    with pytest.raises(ArgumentError, match="save_anndata: expected a model with data, found one without"):
        loaded.save(tmp_path / "again", save_anndata=True)
    assert not (tmp_path / "again").exists()


def test_data_given_counts_more_than_data_beside(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved", save_anndata=True)
    assert len(TOTALANVI.load(tmp_path / "saved", adata=draw_adata()[:4].copy()).predict()) == 4


def test_data_beside_outlives_a_model_that_is_replaced(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved", save_anndata=True)
    before = (tmp_path / "saved" / "adata.h5ad").read_bytes()
    on_adata.save(tmp_path / "saved", overwrite=True)
    assert (tmp_path / "saved" / "adata.h5ad").read_bytes() == before
    assert TOTALANVI.load(tmp_path / "saved").adata is not None
    on_adata.save(tmp_path / "saved", overwrite=True, save_anndata=True)
    assert TOTALANVI.load(tmp_path / "saved").adata is not None


def test_data_of_others_is_neither_taken_nor_replaced(on_adata: TOTALANVI, tmp_path: Path) -> None:
    draw_adata(n_genes=3).write_h5ad(tmp_path / "adata.h5ad")
    before = (tmp_path / "adata.h5ad").read_bytes()
    on_adata.save(tmp_path, overwrite=True)
    assert TOTALANVI.load(tmp_path).adata is None
    with pytest.raises(CheckpointError, match=r"found adata\.h5ad of something else, which would be lost"):
        on_adata.save(tmp_path, overwrite=True, save_anndata=True)
    assert (tmp_path / "adata.h5ad").read_bytes() == before


def test_data_that_cannot_be_written_leaves_no_checkpoint(on_adata: TOTALANVI, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"write_h5ad\(\) takes, found what it refuses .*colour.*; mend it"):
        on_adata.save(tmp_path / "saved", save_anndata=True, colour="red")
    assert not list(tmp_path.iterdir())


def test_export_does_not_read_data_beside(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved", save_anndata=True)
    (tmp_path / "saved" / "adata.h5ad").write_bytes(b"no such file")
    assert read_source(tmp_path / "saved").registry == on_adata.registry
    with pytest.raises(RegistrationError, match="Expected an HDF5 file"):
        TOTALANVI.load(tmp_path / "saved")


# Data that is not like the reference


@pytest.mark.parametrize(
    ("adata", "message"),
    [
        (draw_adata(n_genes=7), r"Expected the model's 6 genes and no others, found 1 more \(GENE6\)"),
        (draw_adata(n_genes=5), r"Expected the model's 6 genes, found 1 missing \(GENE5\)"),
        (draw_adata(proteins=("CD3",)), r"Expected the model's 3 proteins, found 2 missing \(CD4, CD8\)"),
    ],
)
def test_other_features_are_refused(on_adata: TOTALANVI, tmp_path: Path, adata: ad.AnnData, message: str) -> None:
    on_adata.save(tmp_path / "saved")
    with pytest.raises(RegistrationError, match=message):
        TOTALANVI.load(tmp_path / "saved", adata=adata)


def test_another_gene_order_is_put_right(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved")
    loaded = TOTALANVI.load(tmp_path / "saved", adata=draw_adata()[:, ::-1].copy())
    assert np.array_equal(loaded.get_latent_representation(), on_adata.get_latent_representation())


# History


def test_a_history_with_gaps_survives(tmp_path: Path) -> None:
    """Scores are not a number where no cell is labelled, and validation may run every other epoch."""
    adata = draw_adata()
    TOTALVI.setup_anndata(adata, PROTEINS)
    model = TOTALVI(adata, n_latent=3, n_hidden=8)
    model.train(max_epochs=4, train_size=0.8, check_val_every_n_epoch=2, **FAST)
    model.history["elbo_train"].iloc[1] = np.nan
    model.history["elbo_train"].iloc[2] = np.inf
    model.save(tmp_path / "saved")
    history = TOTALVI.load(tmp_path / "saved").history
    assert history.keys() == model.history.keys()
    for name, frame in model.history.items():
        assert history[name].equals(frame), name
        assert history[name].index.equals(frame.index), name
        assert history[name].index.name == frame.index.name


# What else a model remembers


def test_the_models_own_seed_and_origin_survive(tmp_path: Path) -> None:
    adata = draw_adata()
    TOTALVI.setup_anndata(adata, PROTEINS)
    totalvi = TOTALVI(adata, n_latent=3, n_hidden=8, seed=5)
    totalvi.train(max_epochs=1, train_size=0.8, **FAST | {"seed": 9})
    totalvi.save(tmp_path / "totalvi")
    loaded = TOTALVI.load(tmp_path / "totalvi", adata=adata)
    assert (loaded.seed, loaded.was_pretrained) == (5, False)
    TOTALANVI.from_totalvi_model(loaded, "unknown", "kind").save(tmp_path / "totalanvi")
    pretrained = TOTALANVI.load(tmp_path / "totalanvi")
    assert (pretrained.seed, pretrained.was_pretrained) == (5, True)
    # The first saves kept no seed but that of training.
    file = tmp_path / "totalvi" / "config.json"
    config = json.loads(file.read_text())
    del config["seed"], config["was_pretrained"]
    file.write_text(json.dumps(config))
    assert TOTALVI.load(tmp_path / "totalvi").seed == 9


# Classes, devices, arguments without a meaning


def test_another_class_by_leave(on_adata: TOTALANVI, tmp_path: Path) -> None:
    class Mine(TOTALANVI):
        pass

    on_adata.save(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="a checkpoint of Mine"):
        Mine.load(tmp_path / "saved")
    loaded = Mine.load(tmp_path / "saved", allowed_classes_names_list=["TOTALANVI"])
    assert loaded.registry == on_adata.registry


def test_the_device_of_a_loaded_model(on_adata: TOTALANVI, tmp_path: Path) -> None:
    on_adata.save(tmp_path / "saved")
    assert TOTALANVI.load(tmp_path / "saved", accelerator="cpu").device == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert TOTALANVI.load(tmp_path / "saved").device.type == expected
    assert TOTALANVI.load(tmp_path / "saved", device="cpu").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("accelerator", "device", "message"),
    [
        ("tpu", "auto", r"accelerator: expected one of auto, cpu, gpu, .*, found 'tpu'; choose"),
        ("gpu", 99, r"device: expected one that is here, found cuda:99, which is not; use 'cpu'"),
        ("auto", "cuda:99", r"found cuda:99"),
        ("auto", "meta", r"found meta, which is not"),
        ("auto", "colour", r"device: expected 'auto', a number, or a name .*, found 'colour'; give one"),
    ],
)
def test_devices_that_are_not_here(accelerator: str, device: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        chosen_device(accelerator, device)


def test_a_cpu_has_one_device() -> None:
    assert chosen_device("cpu", 3) == chosen_device("cpu") == chosen_device(device="cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda model, folder: model.save(folder / "x", save_kwargs={"pickle_protocol": 4}), "save_kwargs"),
        (lambda model, folder: model.save(folder / "x", datamodule=object()), "datamodule"),
        (lambda model, folder: TOTALANVI.load(folder, backup_url="https://example.org/model.pt"), "backup_url"),
        (lambda model, folder: TOTALANVI.load(folder, datamodule=object()), "datamodule"),
    ],
)
def test_arguments_without_a_meaning_are_refused(
    on_adata: TOTALANVI, tmp_path: Path, call: Callable[[TOTALANVI, Path], object], name: str
) -> None:
    with pytest.raises(ArgumentError, match=f"{name}: expected none, for it has no meaning here, found .*; leave"):
        call(on_adata, tmp_path)
    assert not list(tmp_path.iterdir())


def test_how_to_write_data_that_is_not_written(on_adata: TOTALANVI, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no more arguments unless save_anndata=True, found save_adata; leave"):
        on_adata.save(tmp_path / "x", save_adata=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_legacy_mudata_format_is_the_same(on_adata: TOTALANVI, tmp_path: Path, legacy: bool) -> None:
    on_adata.save(tmp_path / "saved", legacy_mudata_format=legacy)
    assert json.loads((tmp_path / "saved" / "registry.json").read_text())["genes"] == [f"GENE{i}" for i in range(6)]
    assert TOTALANVI.load(tmp_path / "saved").registry == on_adata.registry
