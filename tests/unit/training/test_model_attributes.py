"""Attributes under the names of scvi-tools: what they hold there, noted from version 1.4.2, they hold here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pytest
import torch
from tests.support.reference_cells import MODALITIES, PROTEINS, draw_adata, draw_mudata, set_up, set_up_mudata

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError
from totalanvi.training.registration.attribute_dict import AttributeDict
from totalanvi.training.registration.data_registry import data_registry, setup_arguments, state_registry, summary_stats
from totalanvi.training.registration.manager import DataManager


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return draw_adata()


@pytest.fixture(scope="module")
def model(adata: ad.AnnData) -> TOTALANVI:
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind", unlabeled_category="unknown")
    return TOTALANVI(adata, n_latent=3, n_hidden=8)


# Where the parts are


def test_places_in_an_anndata(model: TOTALANVI) -> None:
    places = model.adata_manager.data_registry
    assert places == {
        "X": {"attr_name": "X", "attr_key": None},
        "batch": {"attr_name": "obs", "attr_key": "_scvi_batch"},
        "labels": {"attr_name": "obs", "attr_key": "_scvi_labels"},
        "proteins": {"attr_name": "obsm", "attr_key": "protein_expression"},
    }
    assert "batch" in places
    assert places.batch.attr_key == "_scvi_batch"


def test_places_in_a_mudata() -> None:
    registry, _ = set_up_mudata(draw_mudata())
    assert data_registry(registry) == {
        "X": {"mod_key": "rna", "attr_name": "X", "attr_key": None},
        "batch": {"attr_name": "obs", "attr_key": "_scvi_batch"},
        "labels": {"attr_name": "obs", "attr_key": "_scvi_labels"},
        "proteins": {"mod_key": "prot", "attr_name": "X", "attr_key": None},
    }
    modalities = {"batch_key": "rna", "size_factor_key": "rna"}
    setup = registry.setup | {"rna_layer": "counts", "size_factor_key": "sf", "modalities": modalities}
    places = data_registry(dataclasses.replace(registry, setup=setup, has_size_factor=True))
    assert places.X == {"mod_key": "rna", "attr_name": "layers", "attr_key": "counts"}
    assert places.batch == {"mod_key": "rna", "attr_name": "obs", "attr_key": "_scvi_batch"}
    assert places.size_factor == {"mod_key": "rna", "attr_name": "obs", "attr_key": "sf"}
    assert setup_arguments(dataclasses.replace(registry, setup=setup))["modalities"] == modalities | MODALITIES


def test_covariates_and_a_panel(adata: ad.AnnData) -> None:
    registry, cells = set_up(adata, panel_key="donor")
    registry = dataclasses.replace(
        registry,
        categorical_covariates=(("site", ("one", "two")),),
        continuous_covariates=("age",),
        setup=registry.setup | {"categorical_covariate_keys": ("site",), "continuous_covariate_keys": ("age",)},
    )
    places = data_registry(registry)
    assert places.panel == {"attr_name": "obs", "attr_key": "_scvi_panel"}
    assert places.extra_categorical_covs == {"attr_name": "obsm", "attr_key": "_scvi_extra_categorical_covs"}
    assert places.extra_continuous_covs == {"attr_name": "obsm", "attr_key": "_scvi_extra_continuous_covs"}
    assert summary_stats(registry, 20) == {
        "n_batch": 2,
        "n_cells": 20,
        "n_extra_categorical_covs": 1,
        "n_extra_continuous_covs": 1,
        "n_labels": 3,
        "n_panel": 2,
        "n_proteins": 3,
        "n_vars": 6,
    }
    states = state_registry(registry, 20)
    assert states.extra_categorical_covs.field_keys == ["site"]
    assert states.extra_categorical_covs.n_cats_per_key == [2]
    assert states.extra_categorical_covs.mappings["site"].tolist() == ["one", "two"]
    assert states.extra_continuous_covs["columns"].tolist() == ["age"]
    arguments = setup_arguments(registry)
    assert arguments["categorical_covariate_keys"] == ["site"]
    assert arguments["size_factor_key"] is None
    covariates = dataclasses.replace(cells, continuous=np.arange(20, dtype=np.float32)[:, None])
    manager = DataManager("TOTALVI", registry, 20, adata, covariates)
    assert manager.get_from_registry("extra_continuous_covs")[:, 0].tolist() == list(range(20))


def test_sizes_without_labels(adata: ad.AnnData) -> None:
    registry, _ = set_up(adata.copy(), labels_key=None, unlabeled_category=None, batch_key=None)
    sizes = summary_stats(registry, 20)
    assert (sizes.n_batch, sizes.n_labels, sizes.n_cells) == (1, 1, 20)
    assert "n_panel" not in sizes
    assert sizes.get("n_panel", 7) == 7


# What they are


def test_parts_of_the_data(model: TOTALANVI, adata: ad.AnnData) -> None:
    manager = model.adata_manager
    assert manager.adata is adata
    assert (manager.get_from_registry("X") != adata.X).nnz == 0
    assert np.array_equal(manager.get_from_registry("proteins"), adata.obsm[PROTEINS].to_numpy())
    assert manager.get_from_registry("batch")[:4].tolist() == [[0], [1], [0], [1]]
    # B, T and, after the labels, unknown.
    assert manager.get_from_registry("labels")[:4].tolist() == [[0], [1], [2], [1]]
    with pytest.raises(ArgumentError, match="Expected one of X, batch, labels, proteins, found 'panel'; ask for one"):
        manager.get_from_registry("panel")


def test_names_in_the_order_of_codes(model: TOTALANVI) -> None:
    state = model.get_state_registry("labels")
    assert state.categorical_mapping.tolist() == ["B", "T", "unknown"]
    assert (state.original_key, state.unlabeled_category) == ("kind", "unknown")
    assert model.adata_manager.get_state_registry("batch").categorical_mapping.tolist() == ["one", "two"]
    assert model.adata_manager.get_state_registry("proteins").column_names.tolist() == ["CD3", "CD4", "CD8"]
    assert "protein_batch_mask" not in model.adata_manager.get_state_registry("proteins")
    with pytest.raises(ArgumentError, match="found 'size_factor'; ask for one"):
        model.get_state_registry("size_factor")


def test_proteins_missing_from_a_batch(adata: ad.AnnData) -> None:
    table = adata.obsm[PROTEINS].copy()
    table.loc[adata.obs["donor"] == "two", "CD4"] = 0
    other = adata.copy()
    other.obsm[PROTEINS] = table
    mask = state_registry(set_up(other)[0], 20).proteins.protein_batch_mask
    assert {code: row.tolist() for code, row in mask.items()} == {"0": [True] * 3, "1": [True, False, True]}


def test_other_data(model: TOTALANVI, adata: ad.AnnData) -> None:
    other = adata[5:9].copy()
    assert model.get_anndata_manager(other, required=True).adata is other
    assert model.get_from_registry(other, "batch").tolist() == [[1], [0], [1], [0]]
    assert model.get_from_registry(adata, "X").shape == (20, 6)


def test_nested_as_there(model: TOTALANVI) -> None:
    registry = model.registry_
    assert registry["model_name"] == "TOTALANVI"
    assert registry["setup_method_name"] == "setup_anndata"
    assert registry["setup_args"]["labels_key"] == model.get_setup_arg("labels_key") == "kind"
    assert registry["field_registries"]["batch"]["data_registry"]["attr_key"] == "_scvi_batch"
    assert registry["field_registries"]["X"]["state_registry"]["n_obs"] == 20
    assert model.init_params_["non_kwargs"]["n_latent"] == 3
    with pytest.raises(ArgumentError, match=r"setup_arg: expected one of .*, labels_key, .*, found 'colour'"):
        model.get_setup_arg("colour")


def test_names_of_features(model: TOTALANVI) -> None:
    assert model.get_var_names().tolist() == [f"GENE{i}" for i in range(6)]
    mdata = draw_mudata()
    set_up_mudata(mdata)
    on_mudata = TOTALVI(mdata, n_hidden=8)
    assert {name: len(names) for name, names in on_mudata.get_var_names().items()} == {"rna": 6, "prot": 3}
    assert on_mudata.get_var_names(legacy_mudata_format=True).tolist()[-1] == "CD8"
    assert on_mudata.modalities == MODALITIES
    assert model.modalities is None


# The model itself


def test_a_part_of_the_models_data(model: TOTALANVI, adata: ad.AnnData) -> None:
    assert np.array_equal(model.data_registry("proteins"), adata.obsm[PROTEINS].to_numpy())
    with pytest.raises(ArgumentError, match="Expected one of X, batch, labels, proteins, found 'colour'"):
        model.data_registry("colour")


def test_the_summary_says_whether_it_is_trained(model: TOTALANVI, trained: TOTALANVI) -> None:
    assert model.summary_string == (
        "TOTALANVI with the following params:\nn_latent: 3, gene_dispersion: gene, protein_dispersion: protein, "
        "gene_likelihood: nb, latent_distribution: normal\nTraining status: Not Trained"
    )
    assert trained.summary_string.endswith("Training status: Trained")


def test_state_and_device(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    assert trained.is_trained_
    assert trained.history_ is trained.history
    assert trained.adata is reference_mdata
    assert trained.summary_stats.n_cells == 400
    trained.to_device("cpu")
    assert trained.device == torch.device("cpu")


def test_a_model_without_data(trained: TOTALANVI, tmp_path: Path) -> None:
    trained.save(tmp_path / "saved")
    loaded = TOTALANVI.load(tmp_path / "saved")
    assert loaded.adata_manager.adata is None
    assert loaded.summary_stats == trained.summary_stats
    with pytest.raises(ArgumentError, match="Expected a model with data, found one without; load it with adata="):
        loaded.adata_manager.get_from_registry("X")


def test_labels_of_a_model(model: TOTALANVI, adata: ad.AnnData) -> None:
    assert (adata.obs["kind"].to_numpy() == model.labels_).all()
    assert len(model._labeled_indices) == sum(adata.obs["kind"] != "unknown")
    assert np.array_equal(model._unlabeled_indices, np.flatnonzero(adata.obs["kind"] == "unknown"))
    assert (model.unlabeled_category_, model.original_label_key, model.n_labels) == ("unknown", "kind", 2)
    assert not model.was_pretrained


def test_labels_without_data(model: TOTALANVI, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    assert TOTALANVI.load(tmp_path / "saved").labels_.tolist() == ["B", "T"]


@pytest.mark.parametrize(("given", "found"), [(None, None), (["unknown", "doublet"], ("unknown", "doublet"))])
def test_several_values_may_mean_unlabelled(adata: ad.AnnData, given: object, found: object) -> None:
    other = adata.copy()
    other.obs["kind"] = other.obs["kind"].astype(object).replace("unknown", None)
    if given is not None:
        other.obs.loc["cell2", "kind"], other.obs.loc["cell6", "kind"] = given
    set_up(other, unlabeled_category=given)
    model = TOTALANVI(other, n_hidden=8)
    assert model.unlabeled_category_ == found
    assert len(model._unlabeled_indices) == 5


# Views


def test_views_print_tables(
    model: TOTALANVI, adata: ad.AnnData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.view_anndata_setup()
    printed = capsys.readouterr().out
    model.view_registry()
    assert capsys.readouterr().out == printed
    for text in (
        "TOTALANVI.setup_anndata",
        "'labels_key': 'kind'",
        "n_proteins",
        "adata.obs['_scvi_batch']",
        "unknown",
    ):
        assert text in printed, text
    model.view_anndata_setup(adata[:7].copy(), hide_state_registries=True)
    printed = capsys.readouterr().out
    assert "Categories" not in printed
    assert "7" in printed
    model.view_setup_method_args()
    direct = capsys.readouterr().out
    model.save(tmp_path / "saved", prefix="a_")
    TOTALANVI.view_setup_args(tmp_path / "saved", prefix="a_")
    assert capsys.readouterr().out == direct
    saved = TOTALANVI.load_registry(tmp_path / "saved", prefix="a_")
    assert saved["setup_args"] == model.registry_["setup_args"]


def test_names_are_not_read_as_markup(adata: ad.AnnData, capsys: pytest.CaptureFixture[str]) -> None:
    other = adata.copy()
    other.obs["donor"] = other.obs["donor"].replace("one", "[red]")
    set_up(other)
    TOTALVI(other, n_hidden=8).view_anndata_setup()
    assert "[red]" in capsys.readouterr().out


# The dictionary with attributes


class NoDict:
    """Holds items and is no `dict`, as scvi-tools' own ``attrdict``."""

    def __init__(self, **items: object) -> None:
        self._items = items

    def items(self) -> object:
        return self._items.items()


def test_a_dictionary_with_attributes() -> None:
    values = AttributeDict(attr_name="obs", attr_key="_scvi_batch")
    assert values == {"attr_name": "obs", "attr_key": "_scvi_batch"}
    assert values == NoDict(attr_name="obs", attr_key="_scvi_batch")
    assert values != NoDict(attr_name="obs", attr_key="batch")
    assert values != {"attr_name": "obs"}
    assert values != "obs"
    assert not hasattr(values, "mod_key")
    with pytest.raises(AttributeError, match="Expected one of attr_name, attr_key, found 'mod_key'"):
        _ = values.mod_key
