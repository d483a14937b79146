"""Where the columns of a MuData are found, and what their values are called."""

from __future__ import annotations

from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import pytest
from tests.support.reference_cells import draw_adata, draw_mudata, set_up, set_up_mudata

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration.codes import as_values, texts
from totalanvi.training.registration.columns import Columns
from totalanvi.training.registration.register import read_cells
from totalanvi.training.registration.setup_note import Setup

SETUP = Setup(kind="mudata", rna="rna", proteins="prot")


def with_column_everywhere() -> md.MuData:
    """Column "site" says in which ``obs`` it is; "lane" is not on the RNA, "age" on the proteins alone."""
    mdata = draw_mudata()
    with not_pulling():
        mdata["rna"].obs["site"] = "rna"
        mdata["prot"].obs["site"] = mdata["prot"].obs["lane"] = mdata["prot"].obs["age"] = "prot"
        mdata.update()
        mdata.obs["site"] = mdata.obs["lane"] = "whole"
    return mdata


@pytest.mark.parametrize(
    ("key", "modalities", "found"),
    [
        ("site", {}, "rna"),
        ("lane", {}, "whole"),
        ("age", {}, "prot"),
        ("site", {"batch_key": "prot"}, "prot"),
        ("lane", {"batch_key": "rna"}, "whole"),
        ("prot:site", {}, "prot"),
        ("site", {"labels_key": "prot"}, "rna"),
    ],
)
def test_where_a_column_is_found(key: str, modalities: dict[str, str], found: str) -> None:
    setup = Setup(kind="mudata", rna="rna", proteins="prot", modalities=modalities)
    mdata = with_column_everywhere()
    column = Columns.of(mdata, setup).find(key, "batch_key")
    assert column is not None
    assert column.index.equals(mdata["rna"].obs_names)
    assert set(column.dropna()) == {found}


def test_columns_that_are_nowhere_are_not_found() -> None:
    columns = Columns.of(with_column_everywhere(), Setup(**{**vars(SETUP), "modalities": {"batch_key": "rna"}}))
    assert columns.find("depth") is None
    assert columns.find("rna:depth") is None
    assert columns.find("adt:site") is None
    # A modality that is named is the only one to be searched.
    assert columns.find("age", "batch_key") is None
    assert columns.find("age", "labels_key") is not None


def test_columns_that_the_whole_object_has_pulled() -> None:
    mdata = draw_mudata()
    with not_pulling():
        mdata.pull_obs(mods=["rna"], columns=["donor"], prefix_unique=True)
    assert "rna:donor" in mdata.obs
    assert set_up_mudata(mdata, batch_key="rna:donor")[0].batches == ("one", "two")


def test_labels_are_found_in_the_modality_that_holds_them() -> None:
    mdata = draw_mudata()
    with not_pulling():
        mdata["prot"].obs["kind"] = ["NK", "B", "unknown"] * 5
        del mdata["rna"].obs["kind"]
        mdata.update()
    registry, cells = set_up_mudata(mdata)
    assert registry.labels == ("B", "NK")
    # Cells 0 to 4 have no proteins, and so no label; cell 5 is the first of the modality.
    assert cells.label[:8].tolist() == [UNLABELLED] * 5 + [1, 0, UNLABELLED]


def test_a_part_of_a_mudata_is_read() -> None:
    mdata = draw_mudata()
    registry, cells = set_up_mudata(mdata)
    part = mdata[mdata["rna"].obs_names[[6, 2]]]
    others = read_cells(part, Setup(**registry.setup), registry)
    assert np.array_equal(others.protein, cells.protein[[6, 2]])
    assert np.array_equal(others.label, cells.label[[6, 2]])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1, 2, 1], ["1", "2", "1"]),
        ([1.0, np.nan, 2.5], ["1", None, "2.5"]),
        (pd.Categorical([3, 1, None]), ["3", "1", None]),
        (pd.array([1, None, 2], dtype="Int64"), ["1", None, "2"]),
        ([True, False, True], ["True", "False", "True"]),
        ([1, 1.0, "x"], ["1", "1", "x"]),
        ([np.inf, "x", np.float32(4)], ["inf", "x", "4"]),
    ],
)
def test_values_as_names(values: Any, names: list[str | None]) -> None:
    assert texts(pd.Series(values)).tolist() == names


@pytest.mark.parametrize(
    ("values", "alike"),
    [
        (["1", 1, "2"], "'1' and 1"),
        ([1.0, "x", "1"], r"1\.0 and '1'"),
        (pd.Categorical(["1", 1]), "1 and '1'|'1' and 1"),
        ([True, "True"], "True and 'True'"),
    ],
)
def test_values_that_are_one_when_written_out_are_refused(values: Any, alike: str) -> None:
    with pytest.raises(
        RegistrationError, match=rf"Expected values of one type in obs\['lane'\], found ({alike}), which are one when"
    ):
        texts(pd.Series(values, name="lane"))


@pytest.mark.parametrize("argument", ["batch_key", "panel_key", "labels_key", "categorical_covariate_keys"])
def test_no_column_may_be_ambiguous(argument: str) -> None:
    adata = draw_adata()
    adata.obs["lane"] = pd.Series(["1", 1] * 10, index=adata.obs_names, dtype=object)
    key: Any = ["lane"] if argument.endswith("keys") else "lane"
    with pytest.raises(RegistrationError, match=r"Expected values of one type in obs\['lane'\], found '1' and 1"):
        set_up(adata, **{argument: key})


@pytest.mark.parametrize(
    ("category", "values"),
    [(None, ()), ("unknown", ("unknown",)), (-9, ("-9",)), ([1.0, "x"], ("1", "x")), (np.array(["a"]), ("a",))],
)
def test_values_that_mean_unlabelled(category: Any, values: tuple[str, ...]) -> None:
    assert as_values(category) == values


def test_numbers_as_batches_are_known_again_where_gaps_made_them_floats() -> None:
    adata = draw_adata()
    adata.obs["lane"] = [1, 2] * 10
    registry, cells = set_up(adata, batch_key="lane")
    assert registry.batches == ("1", "2")
    adata.obs["lane"] = adata.obs["lane"].astype(float)
    assert np.array_equal(read_cells(adata, Setup(**registry.setup), registry).batch, cells.batch)
    adata.obs.loc["cell3", "lane"] = np.nan
    with pytest.raises(
        RegistrationError, match=r"a batch for every cell in obs\['lane'\], found 1 cells without; fill"
    ):
        read_cells(adata, Setup(**registry.setup), registry)


def test_two_columns_of_one_name() -> None:
    adata = draw_adata()
    adata.obs.insert(0, "donor", adata.obs["donor"], allow_duplicates=True)
    with pytest.raises(
        RegistrationError, match="Expected one column 'donor' in obs, found 2 of this name; rename or remove"
    ):
        set_up(adata)


def test_values_that_are_lists() -> None:
    adata = draw_adata()
    adata.obs["donor"] = pd.Series([["x"], ["y"]] * 10, index=adata.obs_names)
    with pytest.raises(
        RegistrationError, match=r"one plain value for each cell in obs\['donor'\], found others .*list"
    ):
        set_up(adata)
