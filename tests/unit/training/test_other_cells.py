"""Cells for a model that exists: matched by name, refused where they do not fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.support.reference_cells import (
    PROTEINS,
    draw_adata,
    draw_mudata,
    set_up,
    set_up_mudata,
    with_columns,
    with_names,
    with_obs,
    without_obs,
)

from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration.register import read_cells
from totalanvi.training.registration.setup_note import Setup, read_setup


def test_other_cells_are_matched_by_name() -> None:
    adata = draw_adata()
    registry, cells = set_up(adata)
    shuffled = adata[[7, 3, 0], adata.var_names[::-1]].copy()
    shuffled.obsm[PROTEINS] = shuffled.obsm[PROTEINS][["CD8", "CD3", "CD4"]]
    shuffled.obs["kind"] = ["T", "alien", "B"]
    with pytest.warns(
        UserWarning, match=r"does not know the labels alien of obs\['kind'\]: their cells count as unlab"
    ):
        others = read_cells(shuffled, read_setup(adata), registry)
    assert np.array_equal(others.rna.toarray(), cells.rna[[7, 3, 0]].toarray())
    assert np.array_equal(others.protein, cells.protein[[7, 3, 0]])
    assert others.batch.tolist() == [1, 1, 0]
    # A type that the reference does not know is no label.
    assert others.label.tolist() == [1, UNLABELLED, 0]


def test_other_cells_need_no_labels() -> None:
    adata = draw_adata()
    registry, _ = set_up(adata)
    del adata.obs["kind"]
    assert set(read_cells(adata, read_setup(adata), registry).label) == {UNLABELLED}


def test_other_cells_keep_to_the_panels_of_the_reference() -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two", "CD4"] = 0
    registry, _ = set_up(adata)
    others = read_cells(draw_adata(), read_setup(adata), registry)
    assert others.measured[1].tolist() == [True, False, True]
    assert others.protein[1, 1] == 0


@pytest.mark.parametrize("names", [["x", "y", "z"], None])
def test_proteins_of_which_none_has_a_name_of_the_model_are_taken_by_position(names: list[str] | None) -> None:
    registry, cells = set_up(draw_adata())
    other = draw_adata()
    table = other.obsm[PROTEINS].to_numpy()
    other.obsm[PROTEINS] = table if names is None else pd.DataFrame(table, index=other.obs_names, columns=names)
    found = "no names" if names is None else r"other names \(x, y, z\)"
    with pytest.warns(
        UserWarning, match=rf"{found}, none of them .*\(CD3, CD4, CD8\), .* by position\. Name the columns"
    ):
        others = read_cells(other, Setup(**registry.setup), registry)
    assert np.array_equal(others.protein, cells.protein)


def test_proteins_that_never_had_names_are_taken_by_position_without_a_word() -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].to_numpy()
    registry, cells = set_up(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        others = read_cells(adata, Setup(**registry.setup), registry)
    assert np.array_equal(others.protein, cells.protein)


def test_data_that_takes_the_place_of_the_reference_may_have_no_other_genes() -> None:
    adata = draw_adata()
    registry, _ = set_up(adata[:, :4].copy())
    setup = Setup(**registry.setup)
    assert read_cells(adata, setup, registry).rna.shape == (20, 4)
    with pytest.raises(
        RegistrationError, match=r"4 genes and no others, found 2 more \(GENE4, GENE5\); leave them out"
    ):
        read_cells(adata, setup, registry, only_genes_of_model=True)


def test_other_cells_without_a_protein_table_are_a_key_error() -> None:
    adata = draw_adata()
    registry, _ = set_up(adata)
    del adata.obsm[PROTEINS]
    with pytest.raises(
        KeyError, match=r"^Expected protein counts in obsm\['protein_expression'\], found the keys none"
    ):
        read_cells(adata, read_setup(adata), registry)


def with_table(adata: ad.AnnData, table: Any) -> ad.AnnData:
    adata.obsm[PROTEINS] = table
    return adata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :4].copy(), r"Expected the model's 6 genes, found 2 missing \(GENE4, GENE5\); add them"),
        (lambda a: with_columns(a, ["CD3", "CD4", "x"]), r"3 proteins, found 1 missing \(CD8\)"),
        (lambda a: with_table(a, a.obsm[PROTEINS][["CD3", "CD4"]]), r"3 proteins, found 1 missing \(CD8\)"),
        (
            lambda a: with_table(a, a.obsm[PROTEINS].to_numpy()[:, :2]),
            "3 proteins, found 2 columns without names; give",
        ),
        (lambda a: with_obs(a, donor="three"), r"batch values that the model knows \(one, two\), found three in"),
        (
            lambda a: without_obs(a, "donor"),
            r"Expected obs\['donor'\], found the keys kind; name one of them as the batch, or",
        ),
        (lambda a: with_names(a, var="GENE0"), "Expected unique gene names, found repeated ones"),
        (lambda a: with_columns(a, ["CD3", "CD3", "CD8"]), "Expected unique protein names, found repeated ones"),
    ],
)
def test_other_cells_that_do_not_fit(change: Callable[[ad.AnnData], ad.AnnData], message: str) -> None:
    adata = draw_adata()
    registry, _ = set_up(adata)
    with pytest.raises(RegistrationError, match=message):
        read_cells(change(draw_adata()), read_setup(adata), registry)


@pytest.mark.parametrize("mine", ["anndata", "mudata"])
def test_other_cells_in_another_kind_of_object(mine: str) -> None:
    adata, mdata = draw_adata(), draw_mudata()
    registry, _ = set_up(adata) if mine == "anndata" else set_up_mudata(mdata)
    setup = read_setup(adata if mine == "anndata" else mdata)
    with pytest.raises(
        RegistrationError, match=r"Expected (Ann|Mu)Data, as set up with setup_\w+\(\), found (Ann|Mu)Data; put"
    ):
        read_cells(mdata if mine == "anndata" else adata, setup, registry)
