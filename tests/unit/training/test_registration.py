"""From AnnData and MuData to registered cells."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support.reference_cells import (
    FAST,
    PROTEINS,
    draw_adata,
    draw_mudata,
    set_up,
    set_up_mudata,
)

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration.panels import warn_of_missing_proteins
from totalanvi.training.registration.register import register
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import read_setup


def test_an_anndata() -> None:
    adata = draw_adata()
    registry, cells = set_up(adata)
    assert registry.genes == tuple(adata.var_names)
    assert registry.proteins == ("CD3", "CD4", "CD8")
    assert registry.batches == registry.panels == ("one", "two")
    assert registry.labels == ("B", "T")
    assert registry.unlabeled == ("unknown",)
    assert not registry.has_missing_proteins
    assert cells.label.tolist() == [0, 1, UNLABELLED, 1] * 5
    assert cells.batch.tolist() == cells.panel.tolist() == [0, 1] * 10
    assert (cells.rna != adata.X).nnz == 0
    assert np.array_equal(cells.protein, adata.obsm[PROTEINS].to_numpy())
    assert cells.measured.all()


@pytest.mark.parametrize("category", ["unknown", ""])
def test_a_blank_label_is_none(category: str) -> None:
    adata = draw_adata()
    adata.obs["kind"] = ["", "  ", *adata.obs["kind"].astype(str)[2:]]
    registry, cells = set_up(adata, unlabeled_category=category)
    assert all(label.strip() for label in registry.labels)
    assert (cells.label[:2] == UNLABELLED).all()


def test_several_values_may_mean_unlabelled_and_missing_ones_do() -> None:
    adata = draw_adata()
    adata.obs["kind"] = ["B", "T", "unknown", "doublet", np.nan, None, "B", "NK", "T", "T"] * 2
    registry, cells = set_up(adata, unlabeled_category=["unknown", "doublet"])
    assert registry.labels == ("B", "NK", "T")
    assert cells.label[:10].tolist() == [0, 2, -1, -1, -1, -1, 0, 1, 2, 2]


@pytest.mark.parametrize("kind", ["category", "number", "bool"])
def test_labels_of_any_kind(kind: str) -> None:
    adata = draw_adata()
    if kind == "category":
        adata.obs["kind"] = pd.Categorical(adata.obs["kind"], categories=["T", "B", "unknown", "never"])
        registry, cells = set_up(adata)
        assert registry.labels == ("B", "T")
        assert cells.label[:4].tolist() == [0, 1, -1, 1]
    elif kind == "number":
        adata.obs["kind"] = [3, 1, -9, 1] * 5
        registry, cells = set_up(adata, unlabeled_category=-9)
        assert registry.labels == ("1", "3")
        assert cells.label[:4].tolist() == [1, 0, -1, 0]
    else:
        adata.obs["kind"] = [True, False] * 10
        registry, _ = set_up(adata, unlabeled_category=None)
        assert registry.labels == ("False", "True")


def test_totalvi_needs_neither_labels_nor_batches() -> None:
    adata = draw_adata()
    TOTALVI.setup_anndata(adata, PROTEINS)
    registry, cells = register(adata, read_setup(adata))
    assert registry.labels == ()
    assert len(registry.batches) == 1
    assert set(cells.label) == {UNLABELLED}


def test_a_layer_of_counts() -> None:
    adata = draw_adata()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X.toarray())
    _, cells = set_up(adata, layer="counts")
    assert (cells.rna != adata.layers["counts"]).nnz == 0


@pytest.mark.parametrize("kind", ["dense", "csc", "integers", "stored zeros"])
def test_counts_in_any_shape_become_canonical_rows(kind: str) -> None:
    adata = draw_adata()
    expected = adata.X.toarray()
    if kind == "dense":
        adata.X = expected
    elif kind == "csc":
        adata.X = sp.csc_matrix(adata.X)
    elif kind == "integers":
        adata.X = adata.X.astype(np.int64)
    else:
        adata.X.data[::3] = 0
        expected = adata.X.toarray()
    _, cells = set_up(adata)
    assert cells.rna.format == "csr"
    assert cells.rna.dtype == np.float32
    assert (cells.rna.data > 0).all()
    assert np.array_equal(cells.rna.toarray(), expected)


def test_the_users_object_keeps_its_counts() -> None:
    adata = draw_adata()
    adata.X.data[0] = 0
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].astype(float)
    adata.obsm[PROTEINS].iloc[0] = np.nan
    before = adata.copy()
    set_up(adata)
    assert adata.X.nnz == before.X.nnz
    assert adata.obsm[PROTEINS].equals(before.obsm[PROTEINS])


@pytest.mark.parametrize("kind", ["array", "sparse", "names in uns"])
def test_proteins_without_a_data_frame(kind: str) -> None:
    adata = draw_adata()
    table = adata.obsm[PROTEINS].to_numpy()
    adata.obsm[PROTEINS] = sp.csr_matrix(table) if kind == "sparse" else table
    options = {}
    if kind == "names in uns":
        adata.uns["names"] = ["a", "b", "c"]
        options["protein_names_uns_key"] = "names"
    registry, cells = set_up(adata, **options)
    assert np.array_equal(cells.protein, table)
    assert registry.proteins == (("a", "b", "c") if options else ("protein_0", "protein_1", "protein_2"))


def test_ensembl_ids_are_found_where_there_are_any() -> None:
    adata = draw_adata()
    adata.var["feature_types"] = "Gene Expression"
    assert set_up(adata)[0].ensembl_ids is None
    adata.var["gene_ids"] = [f"ENSG0000000000{i}" for i in range(adata.n_vars)]
    assert set_up(adata)[0].ensembl_ids == tuple(adata.var["gene_ids"])


@pytest.mark.parametrize("empty", [0.0, np.nan])
def test_a_cell_without_any_protein_count_was_not_measured(empty: float) -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].astype(float)
    adata.obsm[PROTEINS].iloc[[2, 5]] = empty
    registry, cells = set_up(adata)
    assert not registry.has_missing_proteins
    assert np.flatnonzero(~cells.measured.any(axis=1)).tolist() == [2, 5]
    assert not cells.protein[[2, 5]].any()
    assert cells.measured[[0, 1, 3]].all()


@pytest.mark.parametrize("override", [False, True])
def test_a_protein_that_is_zero_in_a_batch_was_not_measured_there(override: bool) -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two", "CD4"] = 0
    TOTALANVI.setup_anndata(adata, PROTEINS, batch_key="donor", labels_key="kind")
    registry, cells = register(adata, read_setup(adata), override_missing_proteins=override)
    assert registry.has_missing_proteins is not override
    assert registry.panel_proteins == ((True, True, True), (True, override, True))
    assert registry.batch_proteins == registry.panel_proteins
    assert np.array_equal(registry.panel_mask(), np.array(registry.panel_proteins))
    assert cells.measured[cells.batch == 1, 1].all() == override


def test_missing_proteins_are_warned_of() -> None:
    adata = draw_adata()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_missing_proteins(set_up(adata)[0])
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two", "CD4"] = 0
    with pytest.warns(
        UserWarning, match=r"zero, or NaN, in all cells of two: they count as missing .* override_missing_proteins"
    ):
        warn_of_missing_proteins(set_up(adata)[0])


def test_a_batch_without_proteins() -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS].loc[adata.obs["donor"] == "two"] = 0
    registry, cells = set_up(adata)
    assert registry.panel_proteins == ((True,) * 3, (False,) * 3)
    assert not cells.measured[cells.batch == 1].any()


def test_panels_that_are_not_batches() -> None:
    adata = draw_adata()
    adata.obs["kit"] = ["A"] * 12 + ["B"] * 8
    adata.obsm[PROTEINS].loc[adata.obs["kit"] == "B", "CD8"] = 0
    registry, cells = set_up(adata, panel_key="kit")
    assert registry.panels == ("A", "B")
    assert registry.panel_proteins == ((True, True, True), (True, True, False))
    assert registry.batch_proteins == ((True,) * 3, (True,) * 3)
    assert cells.panel.tolist() == [0] * 12 + [1] * 8
    assert np.array_equal(cells.measured[:, 2], cells.panel == 0)


def test_a_name_for_not_labelled_that_no_cell_has_is_questioned() -> None:
    with pytest.warns(UserWarning, match="No cell has the label unknwon.*is it spelt so"):
        set_up(draw_adata(), unlabeled_category=["unknown", "unknwon"])


def test_a_mudata_leaves_out_cells_without_rna_and_says_so() -> None:
    mdata = draw_mudata()
    with pytest.warns(UserWarning, match="4 cells have no RNA and are left out"):
        registry, cells = set_up_mudata(mdata)
    assert len(cells) == 16
    assert cells.label.tolist() == [0, 1, UNLABELLED, 1] * 4
    # Cells absent from the protein modality were not measured; the others are matched by name.
    assert not cells.measured[:5].any()
    assert cells.measured[5:].all()
    assert np.array_equal(cells.protein[5:], mdata["prot"].X[:11])
    assert registry.proteins == ("CD3", "CD4", "CD8")
    assert registry.setup["kind"] == "mudata"


@pytest.mark.parametrize("place", ["whole", "prot"])
def test_columns_of_a_mudata_may_sit_elsewhere(place: str) -> None:
    mdata = draw_mudata()
    donor = mdata["rna"].obs["donor"].reindex(mdata.obs_names).fillna("two")
    del mdata["rna"].obs["donor"]
    with not_pulling():
        mdata.update()
    if place == "whole":
        mdata.obs["donor"] = donor
        assert set_up_mudata(mdata)[0].batches == ("one", "two")
    else:
        mdata["prot"].obs["donor"] = donor.reindex(mdata["prot"].obs_names)
        # The protein modality does not know the batch of cells without proteins.
        with pytest.raises(RegistrationError, match=r"found 5 cells without"):
            set_up_mudata(mdata)


def test_layers_of_a_mudata() -> None:
    mdata = draw_mudata()
    for modality in ("rna", "prot"):
        mdata[modality].layers["raw"] = mdata[modality].X.copy()
        mdata[modality].X = mdata[modality].X * 0.5
    _, cells = set_up_mudata(mdata, rna_layer="raw", protein_layer="raw")
    assert (cells.rna != mdata["rna"].layers["raw"]).nnz == 0
    assert np.array_equal(cells.protein[5:], mdata["prot"].layers["raw"][:11])


def test_a_registry_of_the_first_version_is_read(tmp_path: Path) -> None:
    registry, _ = set_up(draw_adata())
    file = tmp_path / "registry.json"
    registry.write(file)
    fields = json.loads(file.read_text()) | {"version": 1}
    for later in ("categorical_covariates", "continuous_covariates", "has_size_factor", "adapted"):
        del fields[later]
    file.write_text(json.dumps(fields))
    old = Registry.read(file)
    assert (old.dimensions, old.adapted) == (registry.dimensions, False)
    old.write(file)
    assert Registry.read(file) == registry


def test_the_note_survives_copies_and_files(tmp_path: Any) -> None:
    adata = draw_adata()
    set_up(adata)
    adata[:8].copy().write_h5ad(tmp_path / "part.h5ad")
    part = ad.read_h5ad(tmp_path / "part.h5ad")
    assert read_setup(part) == read_setup(adata)


def test_symbols_are_kept_where_genes_are_named_by_ids() -> None:
    adata = draw_adata()
    adata.var["feature_name"] = [f"gene{i}" for i in range(adata.n_vars)]
    assert set_up(adata)[0].gene_symbols is None
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    adata.var.loc[adata.var_names[0], "feature_name"] = None
    assert set_up(adata)[0].gene_symbols == ("", *(f"gene{i}" for i in range(1, adata.n_vars)))
    del adata.var["feature_name"]
    assert set_up(adata)[0].gene_symbols is None


@pytest.mark.filterwarnings("ignore:.*AnnData expects .var.index to contain strings:UserWarning")
def test_genes_that_are_numbered(tmp_path: Path) -> None:
    adata = draw_adata()
    adata.var_names = pd.RangeIndex(adata.n_vars)
    TOTALVI.setup_anndata(adata, PROTEINS)
    model = TOTALVI(adata, n_latent=3, n_hidden=8)
    model.train(max_epochs=1, **FAST)
    assert list(model.registry.genes) == [str(i) for i in range(adata.n_vars)]
    latent = model.get_latent_representation()
    model.save(tmp_path / "saved")
    assert np.array_equal(TOTALVI.load(tmp_path / "saved", adata=adata).get_latent_representation(), latent)
    reordered = adata[:, ::-1].copy()
    TOTALVI.prepare_query_anndata(reordered, model)
    assert np.array_equal(model.get_latent_representation(reordered), latent)
