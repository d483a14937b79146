"""Stored rows: the same as those of the matrix in memory, however its pieces are compressed."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

from totalanvi.formats.hdf5_chunks import InflatedVector, is_deflated
from totalanvi.formats.stored_rows import StoredRows
from totalanvi.formats.stores import row_pointers

COMPRESSED: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "gzip, most": {"compression": "gzip", "compression_opts": 9},
}
OTHERS: dict[str, dict[str, Any]] = {
    "not": {},
    "in pieces only": {"chunks": (64,)},
    "lzf": {"compression": "lzf"},
    "gzip and a checksum": {"compression": "gzip", "fletcher32": True},
}


def counts(n_cells: int = 90, n_genes: int = 40) -> sparse.csr_matrix:
    rng = np.random.default_rng(0)
    return sparse.csr_matrix(rng.poisson(0.4, (n_cells, n_genes)).astype(np.float32))


def stored(file: h5py.File, matrix: sparse.csr_matrix, options: dict[str, Any]) -> StoredRows:
    write_elem(file, "X", matrix, dataset_kwargs=options | ({"chunks": (64,)} if options else {}))
    opened = sparse_dataset(file["X"])
    pointers = row_pointers(opened.group, matrix.shape[0])
    assert pointers is not None
    return StoredRows(opened, pointers)


@pytest.mark.parametrize("how", [*COMPRESSED, *OTHERS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_rows_are_those_that_were_written(how: str, dtype: type[np.generic], tmp_path: Path) -> None:
    matrix = counts().astype(dtype)
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        rows = stored(file, matrix, (COMPRESSED | OTHERS)[how])
        assert (rows.shape, rows.dtype) == (matrix.shape, matrix.dtype)
        assert is_deflated(file["X/data"]) == (how in COMPRESSED)
        for start, stop in ((0, 90), (0, 1), (13, 57), (89, 90), (40, 40)):
            found = rows[start:stop]
            np.testing.assert_array_equal(found.toarray(), matrix[start:stop].toarray())
            assert found.dtype == matrix.dtype
        np.testing.assert_array_equal(rows[np.array([2, 5, 80])].toarray(), matrix[[2, 5, 80]].toarray())


def test_pieces_that_were_stored_as_they_are_and_some_that_are_not_there(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.float32)
    with h5py.File(tmp_path / "values.h5", "w") as file:
        part = file.create_dataset("data", shape=(256,), dtype=np.float32, chunks=(64,), compression="gzip")
        part[:128] = values[:128]
        # As HDF5 stores a piece that compression would only make longer.
        part.id.write_direct_chunk((128,), values[128:192].tobytes(), filter_mask=1)
        found = InflatedVector(part)
        np.testing.assert_array_equal(found[100:192], values[100:192])
        np.testing.assert_array_equal(found[10:100], values[10:100])
        # What was never written is zeros.
        assert not found[192:256].any()


@pytest.mark.parametrize("values", [np.ones(32, np.float32), np.ones(4096, np.float32)], ids=["short", "long"])
def test_a_piece_of_another_length_is_damage(values: np.ndarray, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "values.h5", "w") as file:
        part = file.create_dataset("data", data=np.ones(256, np.float32), chunks=(64,), compression="gzip")
        part.id.write_direct_chunk((64,), zlib.compress(values.tobytes()))
        assert InflatedVector(part)[:64].all()
        if len(values) < 64:
            with pytest.raises(ValueError, match="128 bytes in a piece of '/data', where 256 belong"):
                InflatedVector(part)[:256]
        else:
            # No more than a piece is taken out of it.
            assert len(InflatedVector(part)[:256]) == 256
