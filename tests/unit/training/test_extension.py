"""The registry of a reference, extended by the batches and panels of a query for surgery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
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
    with_obs,
    without_obs,
)

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import MissingKeyError, RegistrationError
from totalanvi.training.registration.extend import extend_registry
from totalanvi.training.registration.register import read_cells
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Setup


def reference(**options: Any) -> tuple[Registry, Setup]:
    registry, _ = set_up(with_obs(draw_adata(), kit=["A", "B"] * 10), **options)
    return registry, Setup(**registry.setup)


def without_proteins(adata: ad.AnnData) -> ad.AnnData:
    del adata.obsm[PROTEINS]
    return adata


def test_new_batches_come_after_the_references_own() -> None:
    registry, setup = reference()
    query = with_obs(draw_adata(), donor=["zero", "two", "another", "two"] * 5)
    query.obsm[PROTEINS].loc[query.obs["donor"] == "zero", "CD4"] = 0
    extended, cells = extend_registry(registry, query, setup)
    assert extended.batches == extended.panels == ("one", "two", "another", "zero")
    assert cells.batch[:4].tolist() == cells.panel[:4].tolist() == [3, 1, 2, 1]
    # Rows of the reference stay; new ones say what the query measured.
    assert extended.batch_proteins[:2] == registry.batch_proteins
    assert extended.batch_proteins[2:] == extended.panel_proteins[2:] == ((True,) * 3, (True, False, True))
    assert np.array_equal(cells.measured[:, 1], cells.batch != 3)
    assert extended.adapted
    assert not registry.adapted
    changed = {"batches", "panels", "batch_proteins", "panel_proteins", "adapted"}
    for field in dataclasses.fields(Registry):
        if field.name not in changed:
            assert getattr(extended, field.name) == getattr(registry, field.name)


def test_a_query_of_known_batches_adds_none() -> None:
    registry, setup = reference()
    extended, cells = extend_registry(registry, draw_adata(), setup)
    assert extended == dataclasses.replace(registry, adapted=True)
    assert cells.measured.all()


def test_a_reference_of_one_batch_stays_so() -> None:
    registry, setup = reference(batch_key=None)
    extended, cells = extend_registry(registry, without_obs(draw_adata(), "donor"), setup)
    assert extended.batches == registry.batches
    assert set(cells.batch) == {0}


def test_new_panels_in_known_batches() -> None:
    registry, setup = reference(panel_key="kit")
    query = with_obs(draw_adata(), kit=["B", "C"] * 10)
    query.obsm[PROTEINS].loc[query.obs["kit"] == "C", "CD3"] = 0
    extended, cells = extend_registry(registry, query, setup)
    assert extended.batches == registry.batches
    assert extended.panels == ("A", "B", "C")
    assert extended.panel_proteins == (*registry.panel_proteins, (False, True, True))
    assert cells.panel[:2].tolist() == [1, 2]
    assert np.array_equal(cells.measured[:, 0], cells.panel == 1)


def test_a_query_without_proteins() -> None:
    registry, setup = reference()
    query = without_proteins(with_obs(draw_adata(), donor="new"))
    extended, cells = extend_registry(registry, query, setup)
    assert extended.proteins == registry.proteins
    assert extended.panel_proteins[2] == (False,) * 3
    assert cells.protein.shape == (20, 3)
    assert not cells.protein.any()
    assert not cells.measured.any()


def test_a_query_without_proteins_needs_no_panels() -> None:
    registry, setup = reference(panel_key="kit")
    extended, cells = extend_registry(registry, without_proteins(draw_adata()), setup)
    assert extended.panels == registry.panels
    assert len(cells.panel) == 20
    named = without_proteins(with_obs(draw_adata(), kit="none"))
    assert extend_registry(registry, named, setup)[0].panels == ("A", "B", "none")
    with pytest.raises(MissingKeyError, match=r"Expected obs\['kit'\], found the keys kind, donor; name one"):
        extend_registry(registry, draw_adata(), setup)


def test_a_query_with_another_panel() -> None:
    registry, setup = reference()
    query = with_columns(with_obs(draw_adata(), donor="new"), ["CD19", "CD8", "CD3"])
    with pytest.warns(UserWarning, match=r"does not know 1 proteins of the query \(CD19\): they are left out"):
        extended, cells = extend_registry(registry, query, setup)
    assert extended.panel_proteins[2] == (True, False, True)
    assert np.array_equal(cells.protein[:, 0], query.obsm[PROTEINS]["CD3"])
    assert np.array_equal(cells.protein[:, 2], query.obsm[PROTEINS]["CD8"])
    assert cells.measured[0].tolist() == [True, False, True]


def test_what_a_query_measured_counts_even_in_a_batch_that_is_known() -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two", "CD4"] = 0
    registry, _ = set_up(adata)
    query = draw_adata()
    query.obsm[PROTEINS]["CD8"] = 0
    extended, cells = extend_registry(registry, query, Setup(**registry.setup))
    assert cells.measured.tolist() == [[True, True, False]] * 20
    # What the reference measured is not rewritten.
    assert extended.panel_proteins == registry.panel_proteins


def test_a_cell_of_a_query_without_counts_was_not_measured() -> None:
    registry, setup = reference()
    query = with_obs(draw_adata(), donor="new")
    query.obsm[PROTEINS].iloc[3] = 0
    _, cells = extend_registry(registry, query, setup)
    assert np.flatnonzero(~cells.measured.any(axis=1)).tolist() == [3]


def test_proteins_without_names_are_taken_by_position_or_not_at_all() -> None:
    registry, setup = reference()
    query = with_obs(draw_adata(), donor="new")
    table = query.obsm[PROTEINS].to_numpy()
    query.obsm[PROTEINS] = table
    with pytest.warns(UserWarning, match=r"has no names, none of them the model's \(CD3, CD4, CD8\), but as many"):
        _, cells = extend_registry(registry, query, setup)
    assert np.array_equal(cells.protein, table)
    query.obsm[PROTEINS] = table[:, :2]
    with pytest.raises(RegistrationError, match="the model's 3 proteins, found 2 columns without names; give a Data"):
        extend_registry(registry, query, setup)


def test_labels_of_a_query() -> None:
    registry, setup = reference()
    _, cells = extend_registry(registry, without_obs(draw_adata(), "kind"), setup)
    assert set(cells.label) == {UNLABELLED}
    with pytest.warns(UserWarning, match=r"does not know the labels alien of obs\['kind'\]"):
        extended, cells = extend_registry(registry, with_obs(draw_adata(), kind=["T", "alien"] * 10), setup)
    assert extended.labels == registry.labels
    assert cells.label[:2].tolist() == [1, UNLABELLED]


def test_genes_are_matched_by_name() -> None:
    registry, setup = reference()
    query = draw_adata()
    shuffled = query[:, query.var_names[::-1]].copy()
    _, cells = extend_registry(registry, shuffled, setup)
    assert np.array_equal(cells.rna.toarray(), query.X.toarray())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :4].copy(), r"6 genes, found 2 missing \(GENE4, GENE5\); call prepare_query_anndata or"),
        (lambda a: a[:0].copy(), "Expected a query with cells, found none; look at what filtered it"),
        (lambda a: with_obs(a, sex="x"), r"covariate values that the model knows \(f, m\), found x in obs\['sex'\]"),
        (lambda a: with_obs(a, donor=["new", None] * 10), "a batch for every cell in .*, found 10 cells without"),
        (lambda a: without_obs(a, "donor"), r"Expected obs\['donor'\], found the keys kind, sex; name one"),
    ],
)
def test_queries_that_are_refused(change: Any, message: str) -> None:
    registry, _ = set_up(with_obs(draw_adata(), sex=["m", "f"] * 10), categorical_covariate_keys=["sex"])
    query = with_obs(draw_adata(), sex=["m", "f"] * 10)
    with pytest.raises(RegistrationError, match=message):
        extend_registry(registry, change(query), Setup(**registry.setup))


@pytest.mark.filterwarnings("ignore:4 cells have no RNA:UserWarning")
def test_a_mudata_without_the_protein_modality() -> None:
    registry, _ = set_up_mudata(draw_mudata())
    with not_pulling():
        query = md.MuData({"rna": draw_mudata()["rna"].copy()})
    query["rna"].obs["donor"] = pd.Categorical(["new"] * 16)
    extended, cells = extend_registry(registry, query, Setup(**registry.setup))
    assert extended.batches == ("one", "two", "new")
    assert extended.batch_proteins[2] == (False,) * 3
    assert not cells.measured.any()


def test_cells_are_read_again_as_they_were_registered(tmp_path: Path) -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two", "CD4"] = 0
    registry, before = set_up(adata)
    setup = Setup(**registry.setup)
    query = with_columns(with_obs(draw_adata(), donor=["new", "two"] * 10), ["CD19", "CD4", "CD3"])
    with pytest.warns(UserWarning, match="CD19"):
        extended, cells = extend_registry(registry, query, setup)
    extended.write(tmp_path / "registry.json")
    extended = Registry.read(tmp_path / "registry.json")
    for indices in (slice(None), [4, 5], [5]):
        again = read_cells(query[indices].copy(), setup, extended)
        assert np.array_equal(again.protein, cells.protein[indices])
        assert np.array_equal(again.measured, cells.measured[indices])
        # The reference's cells are to the adapted model what they were.
        again = read_cells(adata[indices].copy(), setup, extended)
        assert np.array_equal(again.measured, before.measured[indices])
        assert np.array_equal(again.batch, before.batch[indices])
    nothing = read_cells(without_proteins(query.copy()), setup, extended)
    assert not nothing.measured.any()
    with pytest.raises(MissingKeyError, match="Expected protein counts in obsm"):
        read_cells(without_proteins(query.copy()), setup, registry)
