"""``setup_anndata`` and ``setup_mudata``: the arguments of scvi-tools, checked at once, noted and not carried out."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from tests.support.reference_cells import MODALITIES, PROTEINS, draw_adata, draw_mudata

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALVI
from totalanvi.training.errors import ArgumentError, MissingKeyError, RegistrationError
from totalanvi.training.registration.setup import LabelledSetUp, SetUp
from totalanvi.training.registration.setup_note import read_setup

COLUMNS = ["batch_key", "panel_key"]
COVARIATES = ["size_factor_key", "categorical_covariate_keys", "continuous_covariate_keys"]
LABELS = ["labels_key", "unlabeled_category"]
OF_ANNDATA = ["adata", "protein_expression_obsm_key", "protein_names_uns_key", *COLUMNS, "layer", *COVARIATES, *LABELS]
OF_MUDATA = ["mdata", "rna_layer", "protein_layer", *COLUMNS, *COVARIATES]


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (SetUp.setup_anndata, OF_ANNDATA),
        (LabelledSetUp.setup_anndata, OF_ANNDATA),
        (SetUp.setup_mudata, [*OF_MUDATA, "modalities", *LABELS]),
        (LabelledSetUp.setup_mudata, [*OF_MUDATA, *LABELS, "modalities"]),
    ],
)
def test_arguments_have_the_order_of_scvi_tools(method: Any, order: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == order


def test_every_argument_is_noted() -> None:
    adata = draw_adata()
    adata.uns["names"] = ["a", "b", "c"]
    adata.layers["counts"] = adata.X.copy()
    adata.obs["kit"], adata.obs["sex"], adata.obs["age"], adata.obs["depth"] = "A", "f", 40.0, 2.0
    TOTALVI.setup_anndata(
        adata, PROTEINS, "names", "donor", "kit", "counts", "depth", ["sex"], ["age"], "kind", ["unknown", 7]
    )
    setup = read_setup(adata)
    assert (setup.proteins, setup.protein_names_uns_key, setup.rna_layer) == (PROTEINS, "names", "counts")
    assert (setup.batch_key, setup.panel_key, setup.size_factor_key) == ("donor", "kit", "depth")
    assert (setup.categorical_covariate_keys, setup.continuous_covariate_keys) == (("sex",), ("age",))
    assert (setup.labels_key, setup.unlabeled) == ("kind", ("unknown", "7"))


def test_labels_come_before_modalities_for_totalanvi() -> None:
    mdata = draw_mudata()
    LabelledSetUp.setup_mudata(mdata, None, None, "donor", None, None, None, None, "kind", "unknown", MODALITIES)
    labelled = read_setup(mdata)
    assert (labelled.labels_key, labelled.unlabeled, labelled.rna) == ("kind", ("unknown",), "rna")
    SetUp.setup_mudata(mdata, None, None, "donor", None, None, None, None, MODALITIES, "kind", "unknown")
    assert read_setup(mdata) == labelled


def test_nothing_is_written_but_the_note() -> None:
    adata, mdata = draw_adata(), draw_mudata()
    before = (list(adata.obs), list(adata.obsm), list(mdata.obs), list(mdata["rna"].obs))
    TOTALVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind")
    TOTALVI.setup_mudata(mdata, batch_key="donor", labels_key="kind", modalities=MODALITIES)
    assert (list(adata.obs), list(adata.obsm), list(mdata.obs), list(mdata["rna"].obs)) == before
    assert len(adata.uns) == len(mdata.uns) == 1
    assert not mdata["rna"].uns


@pytest.mark.filterwarnings("ignore:Trying to modify attribute:UserWarning")
def test_a_part_of_the_data_can_be_set_up() -> None:
    mdata = draw_mudata()
    part = mdata[mdata["rna"].obs_names[:10]]
    TOTALVI.setup_mudata(part, batch_key="donor", modalities=MODALITIES)
    assert read_setup(part).batch_key == "donor"
    assert not mdata.uns


@pytest.mark.parametrize("argument", ["categorical_covariate_keys", "continuous_covariate_keys"])
def test_one_string_is_no_list_of_columns(argument: str) -> None:
    with pytest.raises(
        ArgumentError, match=rf"{argument}: expected a list of columns, found 'donor'; give \['donor'\]"
    ):
        TOTALVI.setup_anndata(draw_adata(), PROTEINS, **{argument: "donor"})  # type: ignore[arg-type]


def test_the_other_kind_of_object_is_refused() -> None:
    with pytest.raises(RegistrationError, match="adata: expected AnnData, found MuData; call setup_mudata"):
        TOTALVI.setup_anndata(draw_mudata(), PROTEINS)
    with pytest.raises(RegistrationError, match="mdata: expected MuData, found AnnData; call setup_anndata"):
        TOTALVI.setup_mudata(draw_adata(), modalities=MODALITIES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_factor_key": "depth"}, r"Expected obs\['depth'\], found the keys kind, donor; .* as the size factor"),
        ({"categorical_covariate_keys": ["donor", "sex"]}, r"obs\['sex'\], .* as the categorical covariate, or add"),
        ({"continuous_covariate_keys": ["age"]}, r"obs\['age'\], .* as the continuous covariate, or add"),
        ({"layer": "counts"}, r"counts in layers\['counts'\], found no layers; add this one"),
        ({"protein_names_uns_key": "names"}, r"Expected uns\['names'\], found the keys none; name one"),
    ],
)
def test_keys_that_are_not_there_are_missed_at_once(options: dict[str, Any], message: str) -> None:
    adata = draw_adata()
    with pytest.raises(MissingKeyError, match=message) as caught:
        TOTALVI.setup_anndata(adata, PROTEINS, **options)
    # Scripts catch the KeyError of scvi-tools; its message has no quotes around it here.
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith("Expected")
    assert not adata.uns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_key": "Kind"}, r"Expected obs\['Kind'\], found the keys kind, donor; name one of them as the label"),
        (
            {"batch_key": "kind", "modalities": {**MODALITIES, "batch_key": "prot"}},
            r"Expected mod\['prot'\]\.obs\['kind'\], found the keys none; name one of them as the batch",
        ),
        ({"modalities": {**MODALITIES, "batch_key": "adt"}}, "Expected a modality 'adt', found rna, prot; name one"),
        ({"rna_layer": "raw"}, r"Expected counts in mod\['rna'\]\.layers\['raw'\], found no layers; add this one"),
    ],
)
def test_parts_of_a_mudata_that_are_not_there_are_missed_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingKeyError, match=message):
        TOTALVI.setup_mudata(draw_mudata(), **{"modalities": MODALITIES, **options})


def test_modalities_for_arguments_that_do_not_exist() -> None:
    with pytest.raises(RegistrationError, match=r"modalities: expected arguments out of rna_layer, .*, found donor;"):
        TOTALVI.setup_mudata(draw_mudata(), modalities={**MODALITIES, "donor": "rna"})


def test_a_modality_that_is_none_is_not_named() -> None:
    mdata = draw_mudata()
    modalities: dict[str, Any] = {**MODALITIES, "batch_key": None, "labels_key": "rna"}
    TOTALVI.setup_mudata(mdata, batch_key="donor", labels_key="kind", modalities=modalities)
    assert read_setup(mdata).modalities == {"labels_key": "rna"}


def test_two_columns_of_one_name_are_questioned() -> None:
    mdata = draw_mudata()
    with not_pulling():
        mdata.obs["donor"] = np.where(np.arange(mdata.n_obs) % 2, "two", "one")
        mdata.obs["donor"] = mdata.obs["donor"].astype("category")
        TOTALVI.setup_mudata(mdata, batch_key="donor", modalities=MODALITIES)
        mdata.obs["donor"] = "three"
    with pytest.warns(UserWarning, match=r"'rna' hold different columns 'donor': .*\{'batch_key': 'rna', \.\.\.\}"):
        TOTALVI.setup_mudata(mdata, batch_key="donor", modalities=MODALITIES)
