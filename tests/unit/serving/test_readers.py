"""Query files: streamed faithfully, and refused when they are damaged, foreign or hostile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from tests.support.queries import REAL_DATA, make_mudata, one_count, refusal, toy_mudata, write_anndata, write_mudata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.queries.query import Query
from totalanvi.serving.queries.readers import QueryData, open_query, read_object


def read(data: QueryData, proteins: str | None = None, layer: str | None = None, size: int = 1000) -> list[Query]:
    with open_query(data, proteins, layer) as source:
        return list(source.blocks(size))


def assert_same(found: list[Query], expected: list[Query]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one.cell_ids) == list(other.cell_ids)
        assert one.gene_names == other.gene_names
        assert one.protein_names == other.protein_names
        assert (one.rna != other.rna).nnz == 0
        for name in ("rna_measured", "proteins", "protein_measured"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_anndata(toy_query(12), tmp_path / "query.h5ad")


@pytest.mark.parametrize("store", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("size", [5, 1])
def test_a_file_reads_as_the_object_does(
    store: Any, compression: str | None, layer: str | None, size: int, tmp_path: Path
) -> None:
    query = toy_query(12)
    query.layers["counts"] = store(query.X.toarray())
    query.X = None if layer else store(query.X.toarray())
    query.write_h5ad(tmp_path / "query.h5ad", compression=compression)
    assert_same(read(tmp_path / "query.h5ad", layer=layer, size=size), read(query, layer=layer, size=size))


@pytest.mark.parametrize("store", [sparse.csr_matrix, sparse.csc_matrix], ids=["csr", "csc"])
@pytest.mark.parametrize("dtype", [">f4", ">i4", "<f2"])
@pytest.mark.parametrize("gapped", [False, True], ids=["neighbours", "gaps"])
def test_numbers_of_another_machine_are_read(store: Any, dtype: str, gapped: bool, tmp_path: Path) -> None:
    """Sparse ones, too, which scipy does not compute with, and rows of a modality that lie apart."""
    query = toy_query(12)
    query.X = store(query.X)
    if gapped:
        prot = AnnData(query.obsm["protein_expression"])
        del query.obsm["protein_expression"]
        expected: Any = make_mudata(prot=prot, rna=query[["cell3", "cell7", "cell1", "cell11"]].copy())
        path, place = write_mudata(expected, tmp_path / "query.h5mu"), "mod/rna/X"
    else:
        path, place, expected = write_anndata(query, tmp_path / "query.h5ad"), "X", query
    with h5py.File(path, "r+") as stored:
        for part, kind in (("data", dtype), ("indices", ">i4"), ("indptr", ">i8")):
            values = stored[f"{place}/{part}"][:]
            del stored[f"{place}/{part}"]
            stored[f"{place}/{part}"] = values.astype(kind)
    assert_same(read(path, size=5), read(expected, size=5))


def test_a_mudata_file_reads_as_the_object_does(tmp_path: Path) -> None:
    mdata = toy_mudata()
    path = write_mudata(mdata, tmp_path / "query.h5mu")
    assert_same(read(path, size=7), read(mdata, size=7))
    assert_same(read(str(path), "none", size=7), read(mdata, "none", size=7))


def test_modalities_in_another_order_read_from_a_file(tmp_path: Path) -> None:
    mdata = toy_mudata()
    order = np.random.default_rng(1).permutation(mdata["rna"].n_obs)
    shuffled = make_mudata(adt=mdata["adt"], rna=mdata["rna"][order].copy())
    path = write_mudata(shuffled, tmp_path / "query.h5mu")
    assert_same(read(path, size=7), read(shuffled, size=7))


def test_what_a_file_holds_decides_and_not_its_suffix(tmp_path: Path) -> None:
    path = write_mudata(toy_mudata(), tmp_path / "query.h5mu")
    with open_query(shutil.copy(path, tmp_path / "query.h5ad")) as source:
        assert source.kind == "mudata"


def test_rows_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    query = one_count(0.5)
    with open_query(write_anndata(query, tmp_path / "query.h5ad")) as source:
        blocks = source.blocks(2)
        np.testing.assert_array_equal(next(blocks).rna.toarray(), query.X[:2].toarray())
        refusal(CountsError, lambda: next(blocks), "0.5", "'cell3'", "'GENE007'", "has no layers")


def test_a_bare_file_is_read(file: Path) -> None:
    with h5py.File(file, "r+") as stored:
        for name in ("encoding-type", "encoding-version"):
            del stored.attrs[name]
        del stored["obsm"], stored["layers"], stored["uns"]
    block = read(file)[0]
    np.testing.assert_array_equal(block.rna.toarray(), toy_query(12).X.toarray())
    assert block.protein_names == ()


def test_a_file_from_before_anndata_0_7_is_refused(file: Path) -> None:
    with h5py.File(file, "r+") as stored:
        del stored["obs"]
        stored["obs"] = np.rec.fromarrays([np.array([b"cell1"] * 12), np.arange(12)], names="index,depth")
    refusal(QueryError, lambda: read(file), "query.h5ad", "cannot be read", "with a current anndata")


def test_read_object_reads_it_whole(file: Path, tmp_path: Path) -> None:
    read_back = read_object(file)
    assert isinstance(read_back, AnnData)
    np.testing.assert_array_equal(read_back.X.toarray(), toy_query(12).X.toarray())
    assert isinstance(read_object(write_mudata(toy_mudata(), tmp_path / "query.h5mu")), mudata.MuData)


# What is not there, or cannot be used


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refusal(QueryError, lambda: read(tmp_path / "none.h5ad"), "none.h5ad", "nothing at", "Check the path")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refusal(QueryError, lambda: read(tmp_path), "is a folder", ".h5ad or .h5mu")


@pytest.mark.parametrize("content", [b"", b"cell,GENE000\ncell1,3\n", b"\x89HDF"])
def test_a_file_that_is_not_hdf5_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "query.h5ad"
    path.write_bytes(content)
    refusal(QueryError, lambda: read(path), "Expected an HDF5 file", "query.h5ad", "write_h5ad")
    refusal(QueryError, lambda: read_object(path), "Expected an HDF5 file")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refusal(QueryError, lambda: read(file), "whole HDF5 file", "truncated or damaged", "Copy it again")


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as stored:
        stored["matrix"] = np.zeros(3)
    refusal(QueryError, lambda: read(tmp_path / "other.h5"), "an AnnData", "a MuData", "'matrix'", "write_h5ad")
    h5py.File(tmp_path / "empty.h5", "w").close()
    refusal(QueryError, lambda: read(tmp_path / "empty.h5"), "found nothing")


def test_names_and_keys_are_refused_as_in_memory(file: Path, tmp_path: Path) -> None:
    refusal(QueryError, lambda: read(file, layer="counts"), "'counts'", "no layers", "--layer")
    refusal(QueryError, lambda: read(file, "adt"), "obsm 'adt'", "'protein_expression'", "--proteins")
    path = write_mudata(toy_mudata(), tmp_path / "query.h5mu")
    refusal(QueryError, lambda: read(path, "prot"), "modality 'prot'", "'rna'", "'adt'")
    empty = write_anndata(toy_query(4)[:0].copy(), tmp_path / "empty.h5ad")
    refusal(QueryError, lambda: read(empty), "at least one cell", "0 cells")


# Damage


def _damage(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as stored:
        change(stored)
    return path


def _rename(names: h5py.Dataset | h5py.Group, others: list[str]) -> None:
    """Overwrite text, which anndata stores as a data set, or as values and which of them are missing."""
    values = names["values"] if isinstance(names, h5py.Group) else names
    values.write_direct(np.array([other.encode() for other in others], dtype=object))


def _set(stored: h5py.File, name: str, index: int, value: float) -> None:
    stored[name][index] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda f: _set(f, "X/indices", 3, 60),
        lambda f: _set(f, "X/indices", 3, -1),
        lambda f: _set(f, "X/indices", 3, 2**31 - 1),
        lambda f: _set(f, "X/indptr", 4, 2**31 - 1),
        lambda f: _set(f, "X/indptr", 4, 0),
        lambda f: _set(f, "X/indptr", 4, -5),
        lambda f: f["X"].attrs.modify("shape", np.array([12, 10**9])),
        lambda f: f["X"].attrs.modify("shape", np.array([10**9, 60])),
        lambda f: f["X"].pop("data"),
        lambda f: f["X"].attrs.modify("encoding-type", "what_matrix"),
        lambda f: f["var"].pop("_index"),
        lambda f: f["obs"].attrs.modify("_index", "nothing"),
        lambda f: f["obsm/protein_expression"].pop("CD4"),
        lambda f: f.pop("X"),
    ],
)
def test_a_damaged_matrix_or_table_is_refused(change: Callable[[h5py.File], None], file: Path) -> None:
    _damage(file, change)
    for size in (100, 1):
        refusal(QueryError, lambda size=size: read(file, size=size))


def test_proteins_of_other_cells_are_refused(file: Path) -> None:
    _damage(file, lambda f: _rename(f["obsm/protein_expression/_index"], ["other"] * 12))
    refusal(QueryError, lambda: read(file), "one row for each of the 12 cells", "obsm 'protein_expression'", "Reindex")


def test_modalities_whose_cells_have_other_names_are_refused(tmp_path: Path) -> None:
    path = write_mudata(toy_mudata(), tmp_path / "query.h5mu")
    n_cells = toy_mudata().n_obs
    _damage(path, lambda f: _rename(f["obs/_index"], [f"x{i}" for i in range(n_cells)]))
    refusal(QueryError, lambda: read(path), "modality 'rna'", f"none of the {n_cells} names", "mdata.update()")


# Files that reach outside themselves


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    return write_anndata(toy_query(12), tmp_path / "secret" / "secret.h5ad")


def _external_link(stored: h5py.File, secret: Path) -> None:
    del stored["X"]
    stored["X"] = h5py.ExternalLink(str(secret), "/X")


def _nested_external_link(stored: h5py.File, secret: Path) -> None:
    stored["uns"].create_group("deep").create_group("deeper")["link"] = h5py.ExternalLink(str(secret), "/obs")


def _external_storage(stored: h5py.File, secret: Path) -> None:
    del stored["X"]
    stored.create_dataset("X", (12, 60), dtype="u1", external=[(str(secret), 0, 720)])


def _virtual(stored: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((12, 60), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "X", (12, 60))
    stored["layers"].create_virtual_dataset("counts", layout)


@pytest.mark.parametrize(
    ("reach", "found", "place"),
    [
        (_external_link, "a link into another file", "'/X'"),
        (_nested_external_link, "a link into another file", "'/uns/deep/deeper/link'"),
        (_external_storage, "data kept in another file", "'/X'"),
        (_virtual, "a virtual data set", "'/layers/counts'"),
    ],
)
def test_a_file_that_reaches_outside_itself_is_refused(
    reach: Callable[[h5py.File, Path], None], found: str, place: str, file: Path, secret: Path
) -> None:
    _damage(file, lambda stored: reach(stored, secret))
    refusal(QueryError, lambda: read(file), "holds all of its data itself", found, place, "write_h5ad")
    refusal(QueryError, lambda: read_object(file), found)


def test_links_within_the_file_are_harmless(file: Path) -> None:
    def link(stored: h5py.File) -> None:
        stored["layers/same"] = stored["X"]
        stored["layers/soft"] = h5py.SoftLink("/X")
        stored["uns/cycle"] = stored["/"]
        stored["uns/dangling"] = h5py.SoftLink("/nothing")

    _damage(file, link)
    expected = read(toy_query(12))
    assert_same(read(file), expected)
    assert_same(read(file, layer="same"), expected)
    assert_same(read(file, layer="soft"), expected)


# Real cells


@pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the checkout")
def test_the_real_mosaic_has_cells_without_rna_and_without_proteins() -> None:
    with open_query(REAL_DATA / "pbmc_mosaic.h5mu") as source:
        assert (len(source), len(source.gene_names), len(source.protein_names)) == (1600, 500, 224)
        assert source.n_without_rna == 400
        blocks = list(source.blocks(333))
    assert sum(block.protein_measured.sum() for block in blocks) == 1200
    ids = pd.Index(np.concatenate([block.cell_ids for block in blocks]))
    assert ids.equals(source.cell_ids)


@pytest.mark.skipif(not REAL_DATA.exists(), reason="no real data beside the checkout")
def test_the_real_run_is_read_in_blocks() -> None:
    with open_query(REAL_DATA / "pbmc10k_citeseq.h5ad") as source:
        block = source.read(3000, 3100)
    whole = read_object(REAL_DATA / "pbmc10k_citeseq.h5ad")[3000:3100]
    assert (block.rna != whole.X).nnz == 0
    np.testing.assert_array_equal(block.proteins, whole.obsm["protein_expression"])
    assert block.protein_measured.all()
