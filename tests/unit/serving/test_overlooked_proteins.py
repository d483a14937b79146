"""Proteins that lie where none are looked for: a query is mapped from RNA alone, and its user is told of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from tests.support.command_line import Run
from tests.support.queries import make_mudata, protein_modality, refusal, rna_modality, write_anndata, write_mudata
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.errors import QueryError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.beforehand import preview
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.queries.readers import open_query

PLUG_IN = ("--samples", 1)
START = "No proteins were read, as there are none under the usual names; but "


def under(key: str, names: list[str] | None = None) -> AnnData:
    """A query whose proteins have another key, and perhaps other names."""
    query = toy_query(12)
    frame = query.obsm["protein_expression"].set_axis(names or TOY.proteins, axis=1)
    del query.obsm["protein_expression"]
    query.obsm[key] = frame
    return query


def cite(**others: AnnData) -> mudata.MuData:
    """A query whose proteins are in the modality `surface`."""
    query = toy_query(12)
    return make_mudata(rna=rna_modality(query), surface=protein_modality(query), **others)


def warned_of(reference: LocalReference, query: AnnData | mudata.MuData, proteins: str | None = None) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reference.map(query, proteins, impute=False)
    return [str(each.message) for each in caught if "proteins" in str(each.message)]


def overlooked_by(reference: LocalReference, query: AnnData, folder: Path, stored: str) -> list[str]:
    """What is said of a query, as an object or as a file."""
    if stored == "object":
        return warned_of(reference, query)
    path = folder / f"query.{stored}"
    if stored == "zarr":
        query.write_zarr(path)
    else:
        query.write_h5ad(path)
    with open_query(path) as source:
        return list(preview(reference, source, MapOptions(impute=False)).alignment.warnings)


@pytest.mark.parametrize(
    ("write", "make", "name", "said", "option"),
    [
        (write_anndata, lambda: under("adt"), "query.h5ad", "obsm 'adt' (6 of 6 names are the reference's)", "adt"),
        (
            write_anndata,
            lambda: under("my counts", ["anti-human CD19", "CD4_RPA-T4", "a", "b", "c", "d"]),
            "query.h5ad",
            "obsm 'my counts' (2 of 6 names are the reference's)",
            "my counts",
        ),
        (write_mudata, cite, "query.h5mu", "modality 'surface' (6 of 6 names are the reference's)", "surface"),
    ],
    ids=["obsm", "two of obsm", "modality"],
)
def test_where_proteins_are_is_told_and_how_to_say_so(
    run: Run,
    toy_folder: Path,
    tmp_path: Path,
    write: Callable[[AnnData | mudata.MuData, Path], Path],
    make: Callable[[], AnnData | mudata.MuData],
    name: str,
    said: str,
    option: str,
) -> None:
    query = write(make(), tmp_path / name)
    words = ("map", toy_folder, query, "-o", tmp_path / "out.parquet", "--no-impute", *PLUG_IN)
    shown = f"'{option}'" if " " in option else option
    expected = (
        f"{START}{said} looks like counts of proteins. Say where they are (proteins='{option}', --proteins {shown})"
    )

    code, printed, told = run(*words, "--report", tmp_path / "report.json")
    assert code == 0, told
    assert told.startswith(f"Warning: {expected}, or that there are none ('none').\n")
    assert "; 0 of 6 proteins\n" in printed
    assert expected in json.loads((tmp_path / "report.json").read_bytes())["alignment"]["warnings"][0]
    code, _, told = run(*words, "--overwrite", "--report", tmp_path / "report.html")
    assert code == 0, told
    assert said in (tmp_path / "report.html").read_text()

    for choice, matched in ((option, said.partition("(")[2][0]), ("none", "0")):
        code, printed, told = run(*words, "--overwrite", "--proteins", choice)
        assert code == 0, told
        assert START not in told
        assert f"; {matched} of 6 proteins\n" in printed


def test_the_same_is_told_of_an_object(reference: LocalReference) -> None:
    told = warned_of(reference, under("adt"))
    assert len(told) == 1
    assert told[0].startswith(f"{START}obsm 'adt' (6 of 6 names")
    assert warned_of(reference, under("adt"), "none") == []
    hashtags = AnnData(toy_query(12).obsm["protein_expression"].set_axis([f"Tag{i}" for i in range(6)], axis=1))
    assert [said.partition(" looks")[0] for said in warned_of(reference, cite(hto=hashtags))] == [
        f"{START}modality 'surface' (6 of 6 names are the reference's)"
    ]


def test_a_key_may_say_it_where_names_do_not(reference: LocalReference) -> None:
    others = under("CITEseq", [f"target {i}" for i in range(6)])
    assert warned_of(reference, others)[0].startswith(f"{START}obsm 'CITEseq' (0 of 6 names are the reference's)")


@pytest.mark.parametrize("stored", ["object", "h5ad", "zarr"])
@pytest.mark.parametrize("kept", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_of_counts_without_names_it_is_told_how_to_name_them(
    reference: LocalReference, tmp_path: Path, stored: str, kept: Callable[[np.ndarray], Any]
) -> None:
    query = under("X_protein")
    query.obsm["X_protein"] = kept(query.obsm["X_protein"].to_numpy())
    told = overlooked_by(reference, query, tmp_path, stored)
    assert told[0].startswith(f"{START}obsm 'X_protein' (without names) looks like counts of proteins. Make it a Data")
    assert len(told) == 1
    refusal(QueryError, lambda: reference.map(query, "X_protein"), "has no names", "DataFrame")

    query.obsm["protein_expression"] = pd.DataFrame(
        query.obsm["X_protein"] if kept is np.asarray else query.obsm["X_protein"].toarray(),
        index=query.obs_names,
        columns=TOY.proteins,
    )
    assert overlooked_by(reference, query, tmp_path, stored) == []


@pytest.mark.parametrize("stored", ["object", "h5ad", "zarr"])
def test_what_is_called_proteins_and_holds_no_counts_is_not_told(
    reference: LocalReference, tmp_path: Path, stored: str
) -> None:
    query = toy_query(12, proteins=False)
    draws = np.random.default_rng(1).normal(size=(12, 2, 3))
    query.obsm["X_prot_umap"] = draws[:, :, 0]
    query.obsm["prot_pairs"] = draws
    query.obsm["prot_sparse"] = sparse.csr_matrix(draws[:, :, 0])
    query.obsm["prot_none"] = np.zeros((12, 3))
    query.obsm["adt_empty"] = pd.DataFrame(index=query.obs_names)
    assert overlooked_by(reference, query, tmp_path, stored) == []


def test_what_has_names_goes_before_what_has_none(reference: LocalReference) -> None:
    query = under("surface")
    query.obsm["adt"] = query.obsm["surface"].to_numpy()
    query.obsm = {key: query.obsm[key] for key in ("adt", "surface")}
    told = warned_of(reference, query)
    assert "obsm 'adt' (without names) or obsm 'surface' (6 of 6 names" in told[0]
    assert "(proteins='surface', --proteins surface)" in told[0]


def test_what_is_no_counts_of_proteins_is_not_told(reference: LocalReference) -> None:
    query = under("denoised")
    query.obsm["denoised"] = query.obsm["denoised"] + 0.25
    query.obsm["texts"] = pd.DataFrame("CD19", index=query.obs_names, columns=["CD19"])
    query.obsm["X_pca"] = query.X[:, :5].toarray()
    query.obsm["totalanvi_protein"] = toy_query(12).obsm["protein_expression"]
    assert warned_of(reference, query) == []
    assert warned_of(reference, toy_query(12)) == []


def test_what_is_damaged_elsewhere_refuses_no_query(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    path = write_mudata(cite(), tmp_path / "query.h5mu")
    with h5py.File(path, "r+") as file:
        file["mod/surface/X/indices"][:] = 10_000
    code, _, told = run("map", toy_folder, path, "-o", tmp_path / "out.parquet", "--no-impute", *PLUG_IN)
    assert code == 0, told
    assert START not in told


def test_an_annotated_copy_is_mapped_again_without_a_word(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = write_anndata(toy_query(12, proteins=False), tmp_path / "query.h5ad")
    assert run("map", toy_folder, query, "-o", tmp_path / "first.h5ad", *PLUG_IN)[0] == 0
    assert "totalanvi_protein" in anndata.read_h5ad(tmp_path / "first.h5ad").obsm
    code, _, told = run("map", toy_folder, tmp_path / "first.h5ad", "-o", tmp_path / "second.h5ad", *PLUG_IN)
    assert code == 0, told
    assert START not in told


def test_modalities_that_nobody_can_tell_apart_can_be_named(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    query = toy_query(12)
    path = write_mudata(
        make_mudata(expression=rna_modality(query), surface=protein_modality(query)), tmp_path / "query.h5mu"
    )
    words = ("map", toy_folder, path, "-o", tmp_path / "out.h5mu", *PLUG_IN)
    code, _, told = run(*words)
    assert code == 2
    assert "'expression', 'surface'" in told
    assert "name that of the proteins (proteins=, --proteins)" in told
    code, printed, told = run(*words, "--proteins", "surface")
    assert code == 0, told
    assert "; 6 of 6 proteins\n" in printed
