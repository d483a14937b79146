"""Files that say they are far more than they are, refused before any of it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.toy_bundle import toy_query

from totalanvi.formats import hdf5_safety
from totalanvi.formats.errors import FormatError
from totalanvi.formats.hdf5_safety import require_self_contained
from totalanvi.formats.hdf5_size import require_modest

PLENTY = 1 << 34


def never_written(file: h5py.File) -> None:
    file.create_dataset("obs/x", shape=(1 << 40,), chunks=(1 << 20,), dtype="f8", compression="gzip")


def never_written_in_one_piece(file: h5py.File) -> None:
    file.create_dataset("x", shape=(1 << 40,), dtype="f8")


def compressed_twice(file: h5py.File) -> None:
    n_bytes = 1 << 27
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((n_bytes,))
    properties.set_deflate(9)
    properties.set_deflate(9)
    space = h5py.h5s.create_simple((n_bytes,))
    made = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, properties)
    h5py.Dataset(made)[:] = 0


def absurd_shape(file: h5py.File) -> None:
    file.create_dataset("x", shape=(2,) * 9, dtype="f4")


def lists_of_lists(file: h5py.File) -> None:
    file.create_dataset("x", shape=(3,), dtype=h5py.vlen_dtype(np.int32))


def references(file: h5py.File) -> None:
    file.create_dataset("x", shape=(3,), dtype=h5py.ref_dtype)


def opaque_bytes(file: h5py.File) -> None:
    file.create_dataset("x", shape=(3,), dtype=np.dtype("V16"))


def a_table_with_lists(file: h5py.File) -> None:
    file.create_dataset("x", shape=(3,), dtype=np.dtype([("a", "f4"), ("b", h5py.vlen_dtype(np.int32))]))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (never_written, "or never written"),
        (never_written_in_one_piece, "or never written"),
        (compressed_twice, "declares 134217728"),
        (absurd_shape, "at most 8 dimensions; found 9"),
        (lists_of_lists, "numbers and text alone"),
        (references, "numbers and text alone"),
        (opaque_bytes, "numbers and text alone"),
        (a_table_with_lists, "numbers and text alone"),
    ],
)
def test_what_cells_never_need_is_refused(tmp_path: Path, write: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        write(file)

    assert (tmp_path / "file.h5").stat().st_size < 1 << 20
    with h5py.File(tmp_path / "file.h5") as file, pytest.raises(FormatError, match=message) as caught:
        require_modest(file, PLENTY)
    assert "x'" in str(caught.value)


def test_data_sets_are_counted_together(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        for name in "abc":
            file[name] = np.zeros(1000, dtype=np.float64)
    with h5py.File(tmp_path / "file.h5") as file:
        require_modest(file, 24_000)
        with pytest.raises(FormatError, match=r"at most 23999 bytes.*'/c'"):
            require_modest(file, 23_999)


def test_what_anndata_writes_is_taken(tmp_path: Path) -> None:
    query = toy_query(20)
    query.obs["flag"] = True
    query.obs["kind"] = query.obs["truth"].astype("category")
    query.layers["dense"] = np.zeros(query.shape, dtype=np.float32)
    query.uns["table"] = np.rec.array([("a", 1.0)], dtype=[("name", "U5"), ("score", "f4")])
    query.uns["empty"] = np.zeros((0, 3))
    query.uns["number"] = 5
    query.write_h5ad(tmp_path / "query.h5ad", compression="gzip")

    with h5py.File(tmp_path / "query.h5ad") as file:
        require_modest(file, PLENTY)


def test_groups_within_groups_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_group("/".join("g" * 200))
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        for place in range(30):
            file.create_group(str(place))
    monkeypatch.setattr(hdf5_safety, "_MOST_OBJECTS", 25)

    for name in ("deep.h5", "wide.h5"):
        with h5py.File(tmp_path / name) as file, pytest.raises(FormatError, match="groups and data sets"):
            require_self_contained(file)
