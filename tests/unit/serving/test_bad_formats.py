"""10x matrices that are damaged, foreign or hostile, and what is no format at all: one clear error each."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from tests.support.queries import refusal, write_anndata
from tests.support.stored_queries import (
    FORMATS,
    read_blocks,
    refused_whole_and_in_blocks,
    replace_dataset,
    write_tenx_folder,
    write_tenx_h5,
)
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.queries.readers import read_object

# 10x .h5


H5_FAULTS: dict[str, tuple[Callable[[h5py.File], object], list[str]]] = {
    "no barcodes": (lambda f: f["matrix"].pop("barcodes"), ["Expected an AnnData", "10x matrix", "'matrix'"]),
    "no values": (lambda f: f["matrix"].pop("data"), ["found no 'data'", "Copy the file again"]),
    "fewer barcodes": (
        lambda f: replace_dataset(f, "matrix/barcodes", np.array([b"A", b"B"])),
        ["12 barcodes", "found 2"],
    ),
    "repeated barcodes": (
        lambda f: replace_dataset(f, "matrix/barcodes", np.array([b"A"] * 12)),
        ["each barcode", "11 repeated", "'A'"],
    ),
    "barcodes that are no text": (lambda f: replace_dataset(f, "matrix/barcodes", np.arange(12)), ["cannot be read"]),
    "fewer features": (lambda f: f["matrix/shape"].write_direct(np.array([99, 12])), ["99 features", "found 66"]),
    "no names": (lambda f: f["matrix/features"].pop("name"), ["an id, a name and a type", "no 'name'"]),
    "names of others": (
        lambda f: replace_dataset(f, "matrix/features/name", np.array([b"A", b"B"])),
        ["an id, a name and a type", "2 and 66"],
    ),
    "no RNA": (
        lambda f: replace_dataset(f, "matrix/features/feature_type", np.array([b"Antibody Capture"] * 66)),
        ["'Gene Expression'", "66 of type 'Antibody Capture'"],
    ),
    "pointers that fall": (lambda f: f["matrix/indptr"].__setitem__(4, 0), ["pointers that rise", "Copy the file"]),
    "pointers beyond the end": (lambda f: f["matrix/indptr"].__setitem__(12, 10**6), ["pointers that rise"]),
    "a feature there is not": (lambda f: f["matrix/indices"].__setitem__(3, 66), ["positions from 0 to 65", "66"]),
    "a feature below the first": (lambda f: f["matrix/indices"].__setitem__(3, -1), ["positions from 0 to 65"]),
    "a shape of one": (lambda f: replace_dataset(f, "matrix/shape", np.array([66])), ["cannot be read"]),
    "an external link": (
        lambda f: replace_dataset(f, "matrix/data", h5py.ExternalLink("/etc/passwd", "/")),
        ["a link into another file", "'/matrix/data'"],
    ),
}


@pytest.mark.parametrize("fault", H5_FAULTS)
def test_a_faulty_10x_file_is_refused(fault: str, tmp_path: Path) -> None:
    change, parts = H5_FAULTS[fault]
    path = write_tenx_h5(toy_query(12), tmp_path / "query.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    refused_whole_and_in_blocks(path, *parts)


def test_a_truncated_10x_file_is_refused(tmp_path: Path) -> None:
    path = write_tenx_h5(toy_query(12), tmp_path / "query.h5")
    path.write_bytes(path.read_bytes()[:3000])
    refused_whole_and_in_blocks(path, "truncated or damaged", "Copy it again")


def test_two_genomes_are_refused(tmp_path: Path) -> None:
    path = write_tenx_h5(toy_query(12), tmp_path / "query.h5", version=2)
    with h5py.File(path, "r+") as file:
        file.copy("GRCh38", "mm10")
    refused_whole_and_in_blocks(path, "one genome", "'GRCh38', 'mm10'")


def test_external_storage_and_virtual_data_are_refused_in_a_10x_file(tmp_path: Path) -> None:
    secret = write_anndata(toy_query(12), tmp_path / "secret.h5ad")
    path = write_tenx_h5(toy_query(12), tmp_path / "query.h5")
    with h5py.File(path, "r+") as file:
        n_values = len(file["matrix/data"])
        del file["matrix/data"]
        file.create_dataset("matrix/data", (n_values,), dtype="u1", external=[(str(secret), 0, n_values)])
    refused_whole_and_in_blocks(path, "data kept in another file", "'/matrix/data'")
    with h5py.File(path, "r+") as file:
        del file["matrix/data"]
        layout = h5py.VirtualLayout((n_values,), dtype="f4")
        layout[:] = h5py.VirtualSource(str(secret), "X/data", (n_values,))
        file.create_virtual_dataset("matrix/data", layout)
    refused_whole_and_in_blocks(path, "a virtual data set")


@pytest.mark.parametrize("kind", ["10x h5", "10x folder", "zarr 3"])
@pytest.mark.parametrize(("value", "fault"), [(0.5, "not whole"), (-2.0, "negative"), (np.nan, "not a number")])
def test_values_that_are_no_counts_are_refused_with_their_place(
    kind: str, value: float, fault: str, tmp_path: Path
) -> None:
    path = FORMATS[kind](toy_query(12), tmp_path)
    if kind == "10x folder":
        matrix = path / "matrix.mtx.gz"
        lines = gzip.decompress(matrix.read_bytes()).decode().replace("integer", "real").splitlines()
        lines[7] = f"{lines[7].rsplit(' ', 1)[0]} {value}"
        matrix.write_bytes(gzip.compress("\n".join(lines).encode()))
    elif kind == "10x h5":
        with h5py.File(path, "r+") as file:
            values = file["matrix/data"][:].astype(np.float32)
            values[3] = value
            replace_dataset(file, "matrix/data", values)
    else:
        zarr.open_array(path / "X" / "data", mode="r+")[3] = value
    refusal(CountsError, lambda: read_blocks(path), fault, "cell 'cell")


# 10x folders


def _edit(change: Callable[[str], str], name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no barcodes": (lambda p: (p / "barcodes.tsv").unlink(), ["barcodes.tsv.gz, barcodes.tsv", "none of these"]),
    "no features": (lambda p: (p / "features.tsv").unlink(), ["features.tsv", "genes.tsv", "none of these"]),
    "no matrix": (lambda p: (p / "matrix.mtx").unlink(), ["a folder of neither kind", "'barcodes.tsv'"]),
    "two of a kind": (
        lambda p: (p / "features.tsv.gz").write_bytes(gzip.compress(b"")),
        ["'features.tsv.gz' and 'features.tsv'", "Keep the one"],
    ),
    "fewer barcodes": (_edit(lambda text: text[: text.rindex("cell11")], "barcodes.tsv"), ["12 barcodes", "found 11"]),
    "more barcodes": (_edit(lambda text: text + "more\n" * 9, "barcodes.tsv"), ["12 barcodes", "found 13"]),
    "repeated barcodes": (_edit(lambda text: text.replace("cell1\n", "cell0\n"), "barcodes.tsv"), ["'cell0'", "once"]),
    "fewer features": (_edit(lambda text: "".join(text.splitlines(True)[:-2]), "features.tsv"), ["66 features", "64"]),
    "ids only": (_edit(lambda text: "\n".join("ABC" * 22), "features.tsv"), ["an id, a name and a type", "with 1"]),
    "no RNA": (_edit(lambda text: text.replace("Gene", "No"), "features.tsv"), ["60 of type 'No Expression'"]),
    "no banner": (_edit(lambda text: text[2:], "matrix.mtx"), ["%%MatrixMarket matrix coordinate", "copy the folder"]),
    "a dense matrix": (_edit(lambda text: text.replace("coordinate", "array"), "matrix.mtx"), ["%%MatrixMarket"]),
    "a symmetric matrix": (_edit(lambda text: text.replace("general", "symmetric"), "matrix.mtx"), ["symmetric"]),
    "a claim beyond the file": (
        _edit(lambda text: text.replace("66 12 ", "66000000 12000000 999"), "matrix.mtx"),
        ["into the file", "claims 999"],
    ),
    "a claim beyond the matrix": (_edit(lambda text: text.replace("66 12 ", "6 1 "), "matrix.mtx"), ["6 features × 1"]),
    "no sizes": (_edit(lambda text: text.replace("66 12 ", "66 x "), "matrix.mtx"), ["numbers of features, cells"]),
    "half of the values": (_edit(lambda text: text[: len(text) // 2], "matrix.mtx"), ["matrix.mtx"]),
    "more values": (_edit(lambda text: text + "1 1 1\n" * 3, "matrix.mtx"), ["'matrix.mtx'", "truncated or damaged"]),
    "a cell there is not": (
        _edit(lambda text: text[: text.rindex("\n", 0, -2)] + "\n66 13 1\n", "matrix.mtx"),
        ["cells from 1 to 13, of 12"],
    ),
    "a line without end": (_edit(lambda text: "A" * 10**6, "barcodes.tsv"), ["lines of a table", "'barcodes.tsv'"]),
    "no text": (lambda p: (p / "features.tsv").write_bytes(b"\xff\xfe\x00" * 99), ["'features.tsv'", "damaged"]),
    "an empty matrix": (_edit(lambda text: "", "matrix.mtx"), ["%%MatrixMarket"]),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_faulty_10x_folder_is_refused(fault: str, tmp_path: Path) -> None:
    change, parts = FOLDER_FAULTS[fault]
    folder = write_tenx_folder(toy_query(12), tmp_path / "query", compressed=False)
    change(folder)
    refused_whole_and_in_blocks(folder, *parts)


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_truncated_archive_is_refused(name: str, share: float, tmp_path: Path) -> None:
    folder = write_tenx_folder(toy_query(12), tmp_path / "query")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    refused_whole_and_in_blocks(folder, repr(name), "truncated or damaged", "compare sizes")


def test_what_is_named_gz_and_is_not_is_refused(tmp_path: Path) -> None:
    folder = write_tenx_folder(toy_query(12), tmp_path / "query")
    (folder / "matrix.mtx.gz").write_text("%%MatrixMarket matrix coordinate integer general\n66 12 0\n")
    refused_whole_and_in_blocks(folder, "'matrix.mtx.gz'", "truncated or damaged")


def test_the_matrix_alone_is_refused(tmp_path: Path) -> None:
    folder = write_tenx_folder(toy_query(12), tmp_path / "query")
    refused_whole_and_in_blocks(folder / "matrix.mtx.gz", "the matrix alone", "Name the folder")


def test_entries_in_any_order_are_read(tmp_path: Path) -> None:
    query = toy_query(12)
    folder = write_tenx_folder(query, tmp_path / "query", compressed=False)
    head, *entries = (folder / "matrix.mtx").read_text().partition("66 12")[2].splitlines()
    rest = (folder / "matrix.mtx").read_text().partition("66 12")[0]
    (folder / "matrix.mtx").write_text("\n".join([f"{rest}66 12{head}", *reversed(entries)]) + "\n")
    np.testing.assert_array_equal(read_object(folder).X.toarray(), query.X.toarray())


# What is no format at all


def test_an_address_is_not_followed() -> None:
    for address in ("https://example.org/query.zarr", "s3://bucket/query.h5ad"):
        refusal(QueryError, lambda address=address: read_blocks(address), "on this machine", "address", "Download it")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    refused_whole_and_in_blocks(tmp_path, "a folder of neither kind", "'notes.txt'", "matrix.mtx.gz")
