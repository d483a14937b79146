"""What fuzzing found to end in a traceback or a crash: damage that is copied but not mapped, stray positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from tests.support.queries import mixed, refusal
from tests.support.stored_queries import FORMATS, read_blocks, replace_dataset, write_tenx_folder, write_tenx_h5
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.queries.readers import open_query, read_object

UNREADABLE: dict[str, Callable[[h5py.File], object]] = {
    "a column that is not there": lambda file: file["obs"].pop("truth"),
    "no order of columns": lambda file: file["obs"].attrs.pop("column-order"),
    "a table that is none": lambda file: file["obs"].attrs.modify("encoding-type", "nonsense"),
    "codes beyond the categories": lambda file: replace_dataset(file, "obs/truth/codes", np.full(12, 99, np.int8)),
    "a column of another length": lambda file: replace_dataset(file, "obs/truth/codes", np.zeros(11, np.int8)),
    "categories that are not there": lambda file: file["obs/truth"].pop("categories"),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_what_is_copied_but_cannot_be_read_is_refused(fault: str, reference: LocalReference, tmp_path: Path) -> None:
    path = FORMATS["h5ad"](toy_query(12), tmp_path)
    with h5py.File(path, "r+") as file:
        UNREADABLE[fault](file)
    act = lambda: map_file(lambda: reference, path, str(tmp_path / "out.h5ad"))  # noqa: E731
    refusal(QueryError, act, "valid cells", str(path), "cannot be read")
    assert not (tmp_path / "out.h5ad").exists()
    # A table has no need of it.
    map_file(lambda: reference, path, str(tmp_path / "out.parquet"))


def test_what_a_zarr_folder_holds_besides_is_read_too(reference: LocalReference, tmp_path: Path) -> None:
    path = FORMATS["zarr 3"](toy_query(12), tmp_path)
    codes = zarr.open_array(path / "obs" / "truth" / "codes", mode="r+")
    codes[:] = 99
    refusal(QueryError, lambda: map_file(lambda: reference, path, str(tmp_path / "out.h5ad")), "cannot be read")


@pytest.mark.parametrize("position", [-5, 66, 2**40])
def test_positions_of_proteins_that_lead_out_of_the_matrix_are_refused(position: int, tmp_path: Path) -> None:
    path = FORMATS["h5mu"](toy_query(12), tmp_path)
    with h5py.File(path, "r+") as file:
        replace_dataset(file, "mod/prot/X/indices", np.full(file["mod/prot/X/indices"].shape, position))
    with open_query(path) as source:
        refusal(
            QueryError, lambda: source.read(0, 12), "valid sparse matrix in modality 'prot'", "Write the query again"
        )


@pytest.mark.parametrize("position", [-5, 66, 2**40])
@pytest.mark.parametrize("place", ["X", "layers/counts"])
def test_positions_are_looked_at_before_columns_are_taken_and_counts_are_sought(
    position: int, place: str, tmp_path: Path
) -> None:
    query = mixed(toy_query(12))
    if place != "X":
        query.layers["counts"] = query.X.copy()
        query.X = query.X * 0.3
    path = FORMATS["h5ad"](query, tmp_path)
    with h5py.File(path, "r+") as file:
        replace_dataset(file, f"{place}/indices", np.full(file[f"{place}/indices"].shape, position))
    refusal(QueryError, lambda: read_blocks(path), "damaged")


@pytest.mark.parametrize("kind", ["h5ad", "h5mu"])
@pytest.mark.parametrize("fault", ["short", "beyond", "below", "no numbers"])
@pytest.mark.parametrize("place", ["X", "layers/counts", "raw/X"])
def test_a_damaged_matrix_is_refused_when_it_is_read_whole(kind: str, fault: str, place: str, tmp_path: Path) -> None:
    query = toy_query(12)
    query.layers["counts"] = query.X.copy()
    query.raw = query
    path = FORMATS[kind](query, tmp_path)
    part = f"{place}/{'data' if fault == 'short' else 'indices'}"
    with h5py.File(path, "r+") as file:
        name = part if kind == "h5ad" else f"mod/rna/{part}"
        values = file[name][:]
        wrong = {"short": values[:-1], "beyond": values + 60, "below": values - 60, "no numbers": values.astype("S3")}
        replace_dataset(file, name, wrong[fault])
    refusal(QueryError, lambda: read_object(path), "valid cells", "cannot be read")


def test_stored_complex_numbers_are_no_counts(tmp_path: Path) -> None:
    path = FORMATS["h5mu"](toy_query(12), tmp_path)
    with h5py.File(path, "r+") as file:
        replace_dataset(file, "mod/prot/X/data", file["mod/prot/X/data"][:] * 1j)
    with open_query(path) as source:
        refusal(CountsError, lambda: source.read(0, 12), "modality 'prot'", "complex")


# Two antibodies to one protein


@pytest.mark.parametrize("kind", ["10x h5", "10x folder"])
def test_two_antibodies_of_one_name_go_by_their_ids_too(kind: str, reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(9)
    if kind == "10x h5":
        path = write_tenx_h5(query, tmp_path / "query.h5")
    else:
        path = write_tenx_folder(query, tmp_path / "query", compressed=False)
    names = [*TOY.proteins[:4], TOY.proteins[0], TOY.proteins[5]]
    if kind == "10x h5":
        with h5py.File(path, "r+") as file:
            replace_dataset(file, "matrix/features/name", np.array([*TOY.genes, *names], dtype="S"))
    else:
        table = path / "features.tsv"
        lines = [line.split("\t") for line in table.read_text().splitlines()]
        for line, name in zip(lines[-6:], names, strict=True):
            line[1] = name
        table.write_text("".join("\t".join(line) + "\n" for line in lines))
    found = read_object(path)
    ids = TOY.proteins
    expected = [f"CD19_{ids[0]}", *TOY.proteins[1:4], f"CD19_{ids[4]}", TOY.proteins[5]]
    assert list(found.obsm["protein_expression"].columns) == expected
    summary = map_file(lambda: reference, path, str(tmp_path / "out.h5ad"))
    assert summary.n_cells == 9


def test_an_antibody_twice_is_refused(tmp_path: Path) -> None:
    path = write_tenx_h5(toy_query(9), tmp_path / "query.h5")
    with h5py.File(path, "r+") as file:
        for part in ("name", "id"):
            replace_dataset(file, f"matrix/features/{part}", np.array([*TOY.genes, *["CD3"] * 6], dtype="S"))
    refusal(QueryError, lambda: read_object(path), "each antibody", "'CD3_CD3' (name and id) again")
