"""References that are refused: what was expected, what was found, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support.reference_cells import (
    MODALITIES,
    PROTEINS,
    draw_adata,
    draw_mudata,
    set_up,
    set_up_mudata,
    with_columns,
    with_counts,
    with_names,
    with_obs,
    with_proteins,
)

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.errors import CountsError, RegistrationError
from totalanvi.training.registration.counts import as_count_rows

NORMALISED = r"name the layer that holds raw counts, or undo the normalisation"


@pytest.mark.parametrize(
    ("change", "expected", "found", "cure"),
    [
        (
            lambda a: with_counts(a, 0.5),
            "Expected raw counts .* in X",
            "found 0.5 .*'GENE2' in cell 'cell3'",
            NORMALISED,
        ),
        (lambda a: with_counts(a, -1), "Expected raw counts .* in X", "found -1 ", NORMALISED),
        (lambda a: with_counts(a, np.nan), "Expected raw counts .* in X", "found nan ", NORMALISED),
        (lambda a: with_counts(a, np.inf), "Expected raw counts .* in X", "found inf ", NORMALISED),
        (
            lambda a: with_proteins(a, 1.5),
            rf"in obsm\['{PROTEINS}'\]",
            "found 1.5 for feature 'CD4' in cell 'cell3'",
            NORMALISED,
        ),
        (lambda a: with_proteins(a, -2), rf"in obsm\['{PROTEINS}'\]", "found -2 ", NORMALISED),
        (
            lambda a: with_proteins(a, np.nan),
            rf"in obsm\['{PROTEINS}'\]",
            "found nan ",
            r"fill it in, or name the column .*panel",
        ),
    ],
)
def test_values_that_are_no_counts(
    change: Callable[[ad.AnnData], ad.AnnData], expected: str, found: str, cure: str
) -> None:
    with pytest.raises(CountsError) as caught:
        set_up(change(draw_adata()))
    message = str(caught.value)
    assert re.search(expected, message)
    assert re.search(found, message)
    assert re.search(cure, message)
    assert caught.value.exit_code == 2


def test_values_that_are_no_counts_in_a_layer_or_a_modality() -> None:
    adata = draw_adata()
    adata.layers["norm"] = adata.X * 0.1
    with pytest.raises(CountsError, match=r"in layers\['norm'\], found 0\.[1-9]"):
        set_up(adata, layer="norm")
    for modality in ("rna", "prot"):
        mdata = draw_mudata()
        mdata[modality].X = mdata[modality].X * 0.1
        with pytest.raises(CountsError, match=rf"in mod\['{modality}'\]\.X, found \d\.\d"):
            set_up_mudata(mdata)


def test_the_offender_is_named_after_empty_rows_too() -> None:
    matrix = sp.csr_matrix(np.array([[0, 0], [0, 0], [1, 0.25], [0, 0]]))
    with pytest.raises(CountsError, match=r"found 0\.25 for feature 'b' in cell 'r'"):
        as_count_rows(matrix, "X", pd.Index(list("pqrs")), pd.Index(list("ab")))


def empty(adata: ad.AnnData) -> ad.AnnData:
    return adata[:0].copy()


def zero_proteins(adata: ad.AnnData) -> ad.AnnData:
    adata.obsm[PROTEINS][:] = 0
    return adata


def no_proteins(adata: ad.AnnData) -> ad.AnnData:
    adata.obsm[PROTEINS] = adata.obsm[PROTEINS].iloc[:, :0]
    return adata


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"labels_key": "Kind"}, r"Expected obs\['Kind'\], found the keys kind, donor; name one of them"),
        (None, {"batch_key": "lane"}, r"Expected obs\['lane'\], found the keys kind, donor; name one of them"),
        (None, {"panel_key": "lane"}, r"Expected obs\['lane'\], found the keys kind, donor; name one of them"),
        (None, {"layer": "counts"}, r"Expected counts in layers\['counts'\], found no layers; "),
        (
            None,
            {"protein_names_uns_key": "names"},
            r"Expected uns\['names'\], found the keys .*; name",
        ),
        (
            lambda a: with_obs(a, kind="unknown"),
            {},
            r"two types or more in obs\['kind'\], found no labelled cell \(not counting unknown\); name another",
        ),
        (lambda a: with_obs(a, kind=np.nan), {}, "found no labelled cell"),
        (
            lambda a: with_obs(a, kind=["T", "unknown"] * 10),
            {},
            r"two types or more .* found only 'T' .*; name another",
        ),
        (
            lambda a: with_obs(a, kind=a.obs_names),
            {},
            r"cell types in obs\['kind'\], which several cells share, found 20 different values, such as 'cell0'",
        ),
        (
            lambda a: with_obs(a, kind=[*map(str, range(10)), *"999", *["unknown"] * 7]),
            {},
            r"found 10 different values, such as '0', for 13 labelled cells; name the column of cell types",
        ),
        (
            lambda a: with_obs(a, lane=a.obs_names),
            {"batch_key": "lane"},
            r"batches in obs\['lane'\], which many cells share, found 20 different values, such as 'cell0'",
        ),
        (
            lambda a: with_obs(a, donor=["x", None] * 10),
            {},
            r"a batch for every cell .* found 10 cells without; fill them",
        ),
        (
            lambda a: with_names(a, var="GENE0"),
            {},
            r"unique gene names, found repeated ones \('GENE0'\); make them unique",
        ),
        (lambda a: with_columns(a, ["CD3", "CD3", "CD8"]), {}, r"unique protein names, .* \('CD3'\); make them unique"),
        (empty, {}, "Expected a reference with cells and genes, found 0 cells and 6 genes; "),
        (lambda a: a[:, :0].copy(), {}, "Expected a reference with cells and genes, found 20 cells and 0 genes; "),
        (zero_proteins, {}, "Expected cells with protein counts, found zeros only; "),
        (no_proteins, {}, "Expected protein counts, found no protein; "),
    ],
)
@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_references_that_are_refused(
    change: Callable[[ad.AnnData], ad.AnnData] | None, options: dict[str, Any], message: str
) -> None:
    adata = draw_adata()
    with pytest.raises(RegistrationError, match=message) as caught:
        set_up(adata if change is None else change(adata), **options)
    assert caught.value.exit_code == 2


def test_proteins_that_are_no_table() -> None:
    adata = draw_adata()
    adata.obsm[PROTEINS] = np.ones((20, 3, 2))
    with pytest.raises(RegistrationError, match=r"Expected a table of cells × features in obsm.*shape \(20, 3, 2\); "):
        set_up(adata)


def test_a_count_that_single_precision_does_not_hold() -> None:
    adata = draw_adata()
    adata.X = adata.X.toarray().astype(np.float64) if hasattr(adata.X, "toarray") else adata.X.astype(np.float64)
    adata.X[2, 1] = 1e39
    with pytest.raises(CountsError, match=r"raw counts .* in X, found 1e\+39 for feature 'GENE1' in cell 'cell2'"):
        set_up(adata)


def test_an_obsm_key_that_is_not_there() -> None:
    with pytest.raises(KeyError, match=r"^Expected obsm\['adt'\], found the keys protein_expression; name one"):
        TOTALVI.setup_anndata(draw_adata(), "adt")


def test_data_that_was_not_set_up() -> None:
    for data in (draw_adata(), draw_mudata()):
        with pytest.raises(
            RegistrationError, match=r"Expected data that was set up, found none of it noted; call setup_"
        ):
            TOTALVI(data)


def test_totalanvi_without_a_column_of_labels() -> None:
    adata = draw_adata()
    TOTALANVI.setup_anndata(adata, PROTEINS)
    with pytest.raises(RegistrationError, match="Expected a labels_key, found none; name the column"):
        TOTALANVI(adata)


def test_names_that_are_not_one_for_each_protein() -> None:
    adata = draw_adata()
    adata.uns["names"] = ["CD3", "CD4"]
    with pytest.raises(RegistrationError, match=r"a name for each of the 3 proteins in uns\['names'\], found 2; name"):
        set_up(adata, protein_names_uns_key="names")


def test_a_modality_or_a_column_that_went_missing_after_it_was_set_up() -> None:
    mdata = draw_mudata()
    TOTALVI.setup_mudata(mdata, labels_key="kind", modalities=MODALITIES)
    del mdata.mod["prot"]
    with pytest.raises(KeyError, match=r"^Expected a modality 'prot', found rna; name one of them in `modalities`, or"):
        TOTALVI(mdata)
    adata = draw_adata()
    TOTALANVI.setup_anndata(adata, PROTEINS, labels_key="kind")
    del adata.obs["kind"]
    with pytest.raises(KeyError, match=r"^Expected obs\['kind'\], found the keys donor; name one of them as the label"):
        TOTALANVI(adata)


@pytest.mark.parametrize("modalities", [None, {}, {"rna_layer": "rna"}])
def test_modalities_that_are_not_named(modalities: dict[str, str] | None) -> None:
    with pytest.raises(RegistrationError, match=r"Expected modalities=.* say which of rna, prot holds RNA"):
        TOTALVI.setup_mudata(draw_mudata(), modalities=modalities)


def test_a_modality_that_is_not_there() -> None:
    with pytest.raises(RegistrationError, match=r"Expected a modality 'adt', found rna, prot; name one of them"):
        set_up_mudata(draw_mudata(), modalities={"rna_layer": "rna", "protein_layer": "adt"})


@pytest.mark.parametrize("modality", ["rna", "prot"])
@pytest.mark.filterwarnings("ignore:Duplicated obs_names:UserWarning", "ignore:.*names are not unique:UserWarning")
def test_repeated_cells_of_a_mudata(modality: str) -> None:
    mdata = draw_mudata()
    parts = {name: mdata[name].copy() for name in ("rna", "prot")}
    parts[modality] = with_names(parts[modality], obs="cell6")
    with not_pulling():
        repeated = md.MuData(parts)
    with pytest.raises(RegistrationError, match=r"Expected unique cell names, found repeated ones \('cell6'\)"):
        set_up_mudata(repeated)


def test_a_layer_of_a_mudata_that_is_not_there() -> None:
    with pytest.raises(
        RegistrationError, match=r"Expected counts in mod\['prot'\]\.layers\['raw'\], found no layers; add this one"
    ):
        set_up_mudata(draw_mudata(), protein_layer="raw")
