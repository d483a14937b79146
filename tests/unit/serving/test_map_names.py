"""Queries with other names give the same answer, and say how names were resolved: in Python, files and reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from anndata import AnnData
from scipy import sparse
from tests.support.command_line import Run
from tests.support.files import listing
from tests.support.mapping import map_to
from tests.support.queries import as_json, assert_same_annotations, make_mudata, refusal, toy_mudata, write_anndata
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.errors import AlignmentError, OutputError
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.outputs.annotate import UNS_KEY
from totalanvi.serving.outputs.map_summary import MapSummary

IDS = [known or "" for known in TOY.ensembl_ids]


@pytest.fixture(scope="module")
def expected(reference: LocalReference) -> AnnData:
    """The plain query without its last gene, the one without an Ensembl id."""
    return reference.map(toy_query(12)[:, :-1].copy(), samples=1)


def by_ids(query: AnnData) -> AnnData:
    query.var = pd.DataFrame(index=[f"{known}.3" for known in IDS])
    return query[:, :-1].copy()


def ids_in_a_column(query: AnnData) -> AnnData:
    query.var = pd.DataFrame({"kind": "Gene Expression", "id": pd.Categorical(IDS)}, index=[f"x{i}" for i in range(60)])
    return query


def symbols_in_a_column(query: AnnData) -> AnnData:
    query.var = pd.DataFrame({"feature_name": TOY.genes}, index=[f"x{i}" for i in range(60)])
    return query[:, :-1].copy()


def in_small_letters(query: AnnData) -> AnnData:
    query.var = pd.DataFrame(index=[name.lower() for name in TOY.genes])
    return query[:, :-1].copy()


def in_two_columns_each(query: AnnData) -> AnnData:
    counts = query[:, :-1].X.toarray()
    part = np.floor(counts / 3)
    return AnnData(
        X=sparse.csr_matrix(np.hstack([part, counts - part])),
        obs=query.obs,
        var=pd.DataFrame(index=[*(f"{known}.1" for known in IDS[:-1]), *(f"{known}.2" for known in IDS[:-1])]),
        obsm=dict(query.obsm),
    )


def with_decorated_proteins(query: AnnData) -> AnnData:
    table = query.obsm["protein_expression"]
    table.columns = ["anti-human CD19", "CD4_TotalSeqB", "cd8a", "ADT_CD56", "CD45-1", "IgG1"]
    table["IgG2a_control"], table["Hashtag1"] = 3, 50
    return query[:, :-1].copy()


@pytest.mark.parametrize(
    "rename",
    [by_ids, ids_in_a_column, symbols_in_a_column, in_small_letters, in_two_columns_each, with_decorated_proteins],
)
def test_other_names_give_the_same_answer(
    reference: LocalReference, expected: AnnData, tmp_path: Path, rename: Callable[[AnnData], AnnData]
) -> None:
    query = rename(toy_query(12))
    found = reference.map(query, samples=1)
    assert_same_annotations(found, expected, uns=False)
    map_to(reference, write_anndata(query, tmp_path / "query.h5ad"), tmp_path / "out.h5ad")
    assert_same_annotations(anndata.read_h5ad(tmp_path / "out.h5ad"), found)


def test_the_output_says_how_each_name_was_resolved(reference: LocalReference) -> None:
    query = with_decorated_proteins(toy_query(12))
    query.var_names = [*IDS[:20], *TOY.genes[20:-1]]
    del query.var["gene_ids"]
    alignment = reference.map(query, samples=1).uns[UNS_KEY]["alignment"]
    assert alignment["gene_names"] == "var_names"
    assert alignment["gene_weight"] == pytest.approx(179 / 180)
    genes, proteins = alignment["genes"], alignment["proteins"]
    assert genes["ways"] == {"ensembl": 20, "name": 39}
    assert list(genes["resolved"]["query"]) == IDS[:20]
    assert list(genes["resolved"]["reference"]) == TOY.genes[:20]
    assert dict(zip(proteins["resolved"]["query"], proteins["resolved"]["way"], strict=True)) == {
        "anti-human CD19": "decoration",
        "CD4_TotalSeqB": "decoration",
        "cd8a": "spelling",
        "ADT_CD56": "decoration",
        "CD45-1": "suffix",
    }
    assert list(proteins["left_out"]["reason"]) == ["isotype control", "hashtag"]


def test_a_map_in_python_and_as_a_file(run: Run, reference: LocalReference, expected: AnnData, tmp_path: Path) -> None:
    query = toy_query(12)[:, :-1].copy()
    query.var = pd.DataFrame(index=[f"x{i}" for i in range(59)])
    query.obsm["protein_expression"].columns = [f"p{i}" for i in range(6)]
    meanings = {f"x{i}": TOY.genes[i] for i in range(59)} | {f"p{i}": TOY.proteins[i] for i in range(6)}
    assert_same_annotations(reference.map(query, samples=1, feature_map=meanings), expected, uns=False)
    table = tmp_path / "map.tsv"
    table.write_text("".join(f"{name}\t{meaning}\n" for name, meaning in meanings.items()))
    file = write_anndata(query, tmp_path / "query.h5ad")
    arguments = ["map", reference.bundle.path, file, "-o", tmp_path / "o.h5ad", "--samples", 1, "--feature-map", table]
    assert run(*arguments)[0] == 0
    assert_same_annotations(anndata.read_h5ad(tmp_path / "o.h5ad"), expected, uns=False)


def test_the_column_of_gene_names_can_be_named(
    run: Run, reference: LocalReference, expected: AnnData, tmp_path: Path
) -> None:
    query = toy_query(12)[:, :-1].copy()
    assert_same_annotations(reference.map(query, samples=1, gene_column="gene_ids"), expected, uns=False)
    file = write_anndata(query, tmp_path / "query.h5ad")
    arguments = ["map", reference.bundle.path, file, "-o", tmp_path / "o.parquet", "--gene-column"]
    code, printed, _ = run(*arguments, "gene_ids")
    assert code == 0
    assert "59 of 60 genes by gene_ids, which carry 99.4% of the model's weight" in printed
    uns = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[UNS_KEY.encode()])
    assert uns["alignment"]["gene_names"] == "gene_ids"
    code, _, errors = run(*arguments[:-1], "--overwrite", "--gene-column", "symbol")
    assert code == 2
    assert "column 'symbol' of var; found 'var_names', 'gene_ids'" in errors


def test_a_mudata_names_genes_in_a_column_too(reference: LocalReference) -> None:
    query = toy_mudata()
    rna = query["rna"][:, :-1].copy()  # the last gene has no id
    plain = reference.map(make_mudata(rna=rna, adt=query["adt"]), samples=1)["rna"]
    rna.var_names = [f"x{i}" for i in range(59)]
    found = reference.map(make_mudata(rna=rna, adt=query["adt"]), samples=1)["rna"]
    assert found.uns[UNS_KEY]["alignment"]["gene_names"] == "gene_ids"
    assert_same_annotations(found, plain, uns=False)


def test_notes_and_the_report(run: Run, reference: LocalReference, tmp_path: Path) -> None:
    query = with_decorated_proteins(toy_query(12))
    more = AnnData(
        X=sparse.csr_matrix((12, 30), dtype=np.float32),
        obs=query.obs,
        var=pd.DataFrame({"gene_ids": ""}, index=[f"x{i}" for i in range(30)]),
    )
    wide = anndata.concat([query, more], axis=1, merge="first")
    file = write_anndata(wide, tmp_path / "query.h5ad")
    report = tmp_path / "report.json"
    code, _, errors = run("map", reference.bundle.path, file, "-o", tmp_path / "o.h5ad", "--report", report)
    assert code == 0
    assert "Note: 5 proteins were matched although their names are written differently" in errors
    assert "Note: 1 hashtags were left out, such as 'Hashtag1'." in errors
    said = json.loads(report.read_text())
    uns = anndata.read_h5ad(tmp_path / "o.h5ad").uns[UNS_KEY]
    assert said["reference"] == uns["reference"]
    assert said["cells"] == {"total": 12, "without_rna": 0, "with_proteins": 12}
    assert said["protein_reliability"][0].keys() == {"protein", "pearson", "spearman", "n_cells"}
    assert [row["protein"] for row in said["protein_reliability"]] == list(reference.features.proteins)
    assert len(uns["alignment"]["genes"]["extra_names"]) == 20
    assert said["alignment"]["genes"]["extra_names"] == [f"x{i}" for i in range(30)]
    assert said["alignment"]["proteins"]["resolved"][0] == {
        "query": "anti-human CD19",
        "reference": "CD19",
        "way": "decoration",
    }


def test_where_a_report_cannot_go(reference: LocalReference, tmp_path: Path) -> None:
    query = write_anndata(toy_query(4), tmp_path / "query.h5ad")

    def act(report: Path, **more: Any) -> Callable[[], MapSummary]:
        return lambda: map_to(reference, query, tmp_path / "out.parquet", report=report, **more)

    refusal(OutputError, act(tmp_path / "report.txt"), "ends in .html or .json")
    refusal(OutputError, act(tmp_path / "none" / "report.json"), "a folder for the report")
    (tmp_path / "report.json").write_text("{}")
    refusal(OutputError, act(tmp_path / "report.json"), "does not exist yet", "--overwrite")
    assert not (tmp_path / "out.parquet").exists()
    act(tmp_path / "report.json", overwrite=True)()
    assert "alignment" in json.loads((tmp_path / "report.json").read_text())


def test_a_query_that_is_refused_leaves_no_report(reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(4)
    query.var = pd.DataFrame(index=[name.capitalize() for name in TOY.genes])
    file = write_anndata(query, tmp_path / "query.h5ad")
    act = lambda: map_to(reference, file, tmp_path / "o.h5ad", report=tmp_path / "report.json")  # noqa: E731
    refusal(AlignmentError, act, "another (mouse or rat)")
    assert listing(tmp_path) == ["query.h5ad"]


def test_genes_that_the_reference_lacks_do_not_matter(reference: LocalReference, expected: AnnData) -> None:
    query = toy_query(12)[:, :-1].copy()
    more = AnnData(
        X=sparse.random(12, 40, 0.5, format="csr", random_state=0).ceil().astype(np.float32),
        obs=query.obs,
        var=pd.DataFrame({"gene_ids": [f"ENSG{i:011d}" for i in range(900, 940)]}, index=[f"X{i}" for i in range(40)]),
    )
    wide = anndata.concat([more, query], axis=1, merge="first")[:, ::-1].copy()
    wide.obsm = query.obsm
    found = reference.map(wide, samples=1)
    assert_same_annotations(found, expected, uns=False)
    assert as_json(found.uns[UNS_KEY]["options"]) == as_json(expected.uns[UNS_KEY]["options"])
