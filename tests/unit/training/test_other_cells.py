"""Cells for a model that exists: matched by name, refused where they do not fit."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
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
from totalanvi.training.registration import read_cells, read_setup


def test_other_cells_are_matched_by_name() -> None:
    adata = draw_adata()
    registry, cells = set_up(adata)
    shuffled = adata[[7, 3, 0], adata.var_names[::-1]].copy()
    shuffled.obsm[PROTEINS] = shuffled.obsm[PROTEINS][["CD8", "CD3", "CD4"]]
    shuffled.obs["kind"] = ["T", "alien", "B"]
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :4].copy(), r"Expected the model's 6 genes, found 2 missing \(GENE4, GENE5\); add them"),
        (lambda a: with_columns(a, ["CD3", "CD4", "x"]), r"3 proteins, found 1 missing \(CD8\)"),
        (lambda a: with_obs(a, donor="three"), r"batch values that the model knows \(one, two\), found three in"),
        (
            lambda a: without_obs(a, "donor"),
            r"Expected obs\['donor'\], found the keys kind; name one of them as the batch, or",
        ),
        (lambda a: with_names(a, var="GENE0"), "Expected unique gene names, found repeated ones"),
        (lambda a: with_columns(a, ["CD3", "CD3", "CD8"]), "Expected unique protein names, found repeated ones"),
        (lambda a: with_names(a, obs="cell0"), "Expected unique cell names, found repeated ones"),
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
