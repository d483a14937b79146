"""Which proteins were measured: NaN throughout a panel says not, zeros say what the user says that they do."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support.reference_cells import (
    FAST,
    MODALITIES,
    PROTEINS,
    draw_adata,
    draw_mudata,
    set_up,
    set_up_mudata,
    with_obs,
)

from totalanvi.training import TOTALANVI, TOTALVI, CountsError
from totalanvi.training.registration.extend import extend_registry
from totalanvi.training.registration.register import read_cells, register
from totalanvi.training.registration.setup_note import Setup, read_setup

WITHOUT_CD4 = ((True, False, True), (True, True, True))


def set_proteins(adata: ad.AnnData, donor: str, protein: str | list[str], value: float) -> ad.AnnData:
    table = adata.obsm[PROTEINS].astype(float)
    table.loc[adata.obs["donor"] == donor, protein] = value
    adata.obsm[PROTEINS] = table
    return adata


# NaN is no count


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("form", ["frame", "array", "sparse"])
def test_what_is_nan_throughout_a_batch_was_not_measured_there(form: str, override: bool) -> None:
    adata = set_proteins(draw_adata(), "one", "CD4", np.nan)
    table = adata.obsm[PROTEINS]
    adata.obsm[PROTEINS] = {
        "frame": table,
        "array": table.to_numpy(),
        "sparse": sp.csr_matrix(table.to_numpy()),
    }[form]
    set_up(adata)
    registry, cells = register(adata, read_setup(adata), override_missing_proteins=override)
    assert registry.panel_proteins == registry.batch_proteins == WITHOUT_CD4
    assert np.array_equal(cells.measured, np.array(WITHOUT_CD4)[cells.batch])
    assert np.isfinite(cells.protein).all()


def test_two_data_sets_with_panels_of_their_own_joined() -> None:
    one, two = draw_adata(), draw_adata(proteins=("CD3", "CD8", "CD19"))
    joined = ad.concat({"one": one, "two": two}, join="outer", label="set", index_unique="-")
    assert np.isnan(joined.obsm[PROTEINS]).any(axis=None)
    TOTALVI.setup_anndata(joined, PROTEINS, batch_key="set")
    with pytest.warns(UserWarning, match="zero, or NaN, in all cells of one, two: they count as missing"):
        model = TOTALVI(joined, n_latent=2, n_hidden=8)
    assert model.registry.proteins == ("CD3", "CD4", "CD8", "CD19")
    assert model.registry.panel_proteins == ((True, True, True, False), (True, False, True, True))
    model.train(max_epochs=1, **FAST)
    assert np.isfinite(model.get_normalized_expression()[1]).all(axis=None)


def test_panels_that_are_not_batches_may_lack_proteins() -> None:
    adata = with_obs(draw_adata(), kit=["A"] * 12 + ["B"] * 8)
    table = adata.obsm[PROTEINS].astype(float)
    table.iloc[12:, 2] = np.nan
    adata.obsm[PROTEINS] = table
    registry, _ = set_up(adata, panel_key="kit")
    assert registry.panel_proteins == ((True, True, True), (True, True, False))
    with pytest.raises(CountsError, match=r"found nan for feature 'CD8' in cell 'cell12', and .* of the same batch; "):
        set_up(adata)


def test_cells_without_any_count_say_nothing_of_their_panel() -> None:
    adata = set_proteins(draw_adata(), "one", "CD4", np.nan)
    adata.obsm[PROTEINS].iloc[4] = np.nan
    registry, cells = set_up(adata)
    assert registry.panel_proteins == WITHOUT_CD4
    assert not cells.measured[4].any()


@pytest.mark.parametrize("options", [{}, {"batch_key": None}])
def test_nan_here_and_there_is_refused(options: dict[str, None]) -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].astype(float)
    adata.obsm[PROTEINS].iloc[3, 1] = np.nan
    found = (
        r"found nan for feature 'CD4' in cell 'cell3', and counts of it in other cells.*; fill it in, or name .+panel"
    )
    with pytest.raises(CountsError, match=found):
        set_up(adata, **options)


def test_a_modality_may_have_nan_throughout_a_batch() -> None:
    mdata: md.MuData = draw_mudata()
    prot = mdata["prot"]
    donor = pd.Series(draw_adata().obs["donor"])[prot.obs_names]
    values = prot.X.copy()
    values[(donor == "one").to_numpy(), 1] = np.nan
    prot.X = values
    with pytest.warns(UserWarning, match="4 cells have no RNA"):
        registry, cells = set_up_mudata(mdata)
    assert registry.panel_proteins == WITHOUT_CD4
    assert not cells.measured[:5].any()


def test_other_cells_may_lack_a_protein_that_their_batch_has() -> None:
    registry, _ = set_up(draw_adata())
    other = set_proteins(draw_adata(), "one", "CD4", np.nan)
    cells = read_cells(other, Setup(**registry.setup), registry)
    assert np.array_equal(cells.measured, np.array(WITHOUT_CD4)[cells.batch])
    query = with_obs(set_proteins(draw_adata(), "one", "CD4", np.nan), donor=["new", "newer"] * 10)
    extended, cells = extend_registry(registry, query, Setup(**registry.setup))
    assert extended.panel_proteins[2:] == WITHOUT_CD4
    assert not cells.measured[cells.batch == 2, 1].any()


# Zeros that count


def test_zeros_count_where_a_batch_has_nothing_else(tmp_path: Path) -> None:
    adata = set_proteins(draw_adata(), "one", ["CD3", "CD4", "CD8"], 0)
    set_up(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = TOTALVI(adata, n_latent=2, n_hidden=8, override_missing_proteins=True)
    assert model.module.protein_batch_mask is None
    assert not model.registry.has_missing_proteins
    assert model._cells is not None
    assert model._cells.measured.all()
    model.train(max_epochs=1, **FAST)
    model.save(tmp_path / "saved")
    loaded = TOTALVI.load(tmp_path / "saved", adata=adata)
    assert loaded._cells is not None
    assert loaded._cells.measured.all()
    labelled = TOTALANVI.from_totalvi_model(model, "unknown", labels_key="kind")
    assert labelled._cells is not None
    assert labelled._cells.measured.all()


def test_without_being_told_so_zeros_do_not_count() -> None:
    adata = set_proteins(draw_adata(), "one", ["CD3", "CD4", "CD8"], 0)
    set_up(adata)
    with pytest.warns(UserWarning, match=r"in all cells of one.*override_missing_proteins=True"):
        model = TOTALVI(adata, n_latent=2, n_hidden=8)
    assert model._cells is not None
    assert np.array_equal(model._cells.measured.all(axis=1), model._cells.batch == 1)


def test_cells_that_a_modality_does_not_name_were_not_measured_whatever_zeros_mean() -> None:
    mdata = draw_mudata()
    TOTALVI.setup_mudata(mdata, modalities=MODALITIES)
    with pytest.warns(UserWarning, match="4 cells have no RNA"):
        _, cells = register(mdata, read_setup(mdata), override_missing_proteins=True)
    assert not cells.measured[:5].any()
    assert cells.measured[5:].all()
