"""Cells whose RNA stays in a file: the same cells, mini-batches and models as from memory, or a clear error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import lightning as L
import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp
import torch
import zarr
from anndata.io import sparse_dataset
from tests.support.reference_cells import FAST, draw_adata, draw_mudata, set_up, set_up_mudata
from tests.support.stored_queries import replace_dataset

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI
from totalanvi.training import windows as windows_module
from totalanvi.training.data import CellBatch, Cells, StoredCells
from totalanvi.training.errors import ArgumentError, CountsError, RegistrationError
from totalanvi.training.loaders import cell_loader, training_loader
from totalanvi.training.models.trainable import data_digest

N_CELLS = 60


def in_hdf5(adata: ad.AnnData, folder: Path) -> ad.AnnData:
    adata.write_h5ad(folder / "cells.h5ad")
    return ad.read_h5ad(folder / "cells.h5ad", backed="r")


def in_zarr(adata: ad.AnnData, folder: Path) -> ad.AnnData:
    adata.write_zarr(folder / "cells.zarr")
    stored = zarr.open_group(folder / "cells.zarr", mode="r")["X"]
    matrix = sparse_dataset(stored) if sp.issparse(adata.X) else stored
    return ad.AnnData(matrix, obs=adata.obs, var=adata.var, obsm=dict(adata.obsm))


STORES = pytest.mark.parametrize("store", [in_hdf5, in_zarr])
Store = Callable[[ad.AnnData, Path], ad.AnnData]


@pytest.fixture
def narrow_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 20 cells, in blocks of 5."""
    monkeypatch.setattr(windows_module, "_MOST_CELLS", 20)
    monkeypatch.setattr(windows_module, "_BLOCKS_PER_WINDOW", 4)


@pytest.fixture
def stored(tmp_path: Path, narrow_windows: None) -> StoredCells:
    cells = set_up(in_hdf5(draw_adata(N_CELLS), tmp_path))[1]
    assert isinstance(cells, StoredCells)
    return cells


@pytest.fixture
def in_memory() -> Cells:
    return set_up(draw_adata(N_CELLS))[1]


def assert_same(batch: CellBatch, other: CellBatch) -> None:
    for name, value in batch.__dict__.items():
        expected = getattr(other, name)
        if name == "rna":
            value, expected = value.to_dense(), expected.to_dense()
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@STORES
@pytest.mark.parametrize("sparse", [True, False])
def test_cells_of_a_file_are_those_of_memory(store: Store, sparse: bool, tmp_path: Path, in_memory: Cells) -> None:
    adata = draw_adata(N_CELLS)
    if not sparse:
        adata.X = adata.X.toarray()
    registry, cells = set_up(store(adata, tmp_path))
    assert isinstance(cells, StoredCells)
    for index in (slice(None), slice(7, 9), np.array([3, 41, 40, 0]), np.array([], int)):
        assert_same(cells[index].to_batch(), in_memory[index].to_batch())
        assert cells[index].rna.has_canonical_format
    assert_same(cells.chosen(np.array([50, 2, 9]))[1:].to_batch(), in_memory[[2, 9]].to_batch())
    np.testing.assert_array_equal(cells.library, in_memory.library)
    assert data_digest(registry, cells) == data_digest(registry, in_memory)


def test_modalities_of_a_file_are_those_of_memory(tmp_path: Path) -> None:
    mdata = draw_mudata()
    with not_pulling():
        mdata.write(tmp_path / "cells.h5mu")
        backed = md.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    with pytest.warns(UserWarning, match="no RNA"):
        cells, expected = set_up_mudata(backed)[1], set_up_mudata(mdata)[1]
    assert isinstance(cells, StoredCells)
    assert_same(cells.to_batch(), expected.to_batch())


def test_zeros_and_repeated_genes_of_a_file_are_tidied(tmp_path: Path) -> None:
    adata = draw_adata(8)
    adata.X = sp.csr_matrix(([2.0, 0.0, 1.0, 3.0], [5, 4, 0, 0], [0, 2, 2, *[4] * 6]), shape=(8, 6))
    rna = set_up(in_hdf5(adata, tmp_path))[1].rna
    assert rna.nnz == 2
    np.testing.assert_array_equal(rna[:3].toarray(), [[0, 0, 0, 0, 0, 2], [0] * 6, [4, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("dtype", [">f4", "<f2", "<u2", "<i8"])
def test_numbers_of_a_file_may_be_of_any_type(dtype: str, tmp_path: Path, in_memory: Cells) -> None:
    draw_adata(N_CELLS).write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        replace_dataset(file, "X/data", file["X/data"][:].astype(dtype))
    cells = set_up(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))[1]
    assert_same(cells.to_batch(), in_memory.to_batch())


def test_mini_batches_in_order_are_those_of_memory(stored: StoredCells, in_memory: Cells) -> None:
    some = np.array([4, 59, 3, *range(10, 50)])
    loader = cell_loader(stored, some, batch_size=10)
    expected = list(cell_loader(in_memory, some, batch_size=10))
    assert len(loader) == len(expected) == 5
    for batch, other in zip(loader, expected, strict=True):
        assert_same(batch, other)


def numbered(cells: StoredCells) -> StoredCells:
    """Cells told apart by a batch code of their own."""
    return StoredCells(**{**cells.__dict__, "batch": np.arange(len(cells))})


def epoch(loader: Any, number: int) -> list[CellBatch]:
    loader.sampler.set_epoch(number)  # what Lightning does
    return list(loader)


def order(batches: list[CellBatch]) -> list[int]:
    return torch.cat([batch.batch for batch in batches]).tolist()


def test_an_epoch_has_each_training_cell_once_in_an_order_of_seed_and_epoch(
    stored: StoredCells, in_memory: Cells
) -> None:
    train = np.delete(np.arange(N_CELLS), [0, 17, 58, 59])[::-1]
    loader = training_loader(numbered(stored), train, batch_size=10, seed=1)
    first, second, again = (epoch(loader, number) for number in (0, 1, 0))
    assert [batch.n_cells for batch in first] == [10, 10, 10, 10, 10, 6]
    assert sorted(order(first)) == sorted(train.tolist())
    assert order(first) != order(second)
    assert order(first) == order(again)
    assert order(epoch(training_loader(numbered(stored), train, 10, seed=2), 0)) != order(first)
    for batch in first:
        expected = in_memory[batch.batch.numpy()].to_batch()
        assert_same(CellBatch(**{**expected.__dict__, "rna": batch.rna}), expected)
        assert torch.equal(batch.target, expected.label)


def test_a_window_is_made_of_blocks_from_all_over_the_file(stored: StoredCells) -> None:
    batches = epoch(training_loader(numbered(stored), np.arange(N_CELLS), batch_size=10, seed=0), 0)
    for window in (order(batches[:2]), order(batches[2:4]), order(batches[4:])):
        ascending = np.sort(window)
        assert len(set(ascending // 5)) == 4  # blocks of five neighbours, all of them whole
        assert ascending.tolist() != window


@pytest.mark.parametrize("batch_size", [7, 33])
def test_mini_batches_need_not_divide_a_window(stored: StoredCells, batch_size: int) -> None:
    batches = epoch(training_loader(numbered(stored), np.arange(N_CELLS), batch_size, seed=0), 0)
    assert {batch.n_cells for batch in batches[:-1]} == {batch_size}
    assert sorted(order(batches)) == list(range(N_CELLS))


def test_at_most_so_many_cells_of_a_label_are_targets(stored: StoredCells) -> None:
    loader = training_loader(numbered(stored), np.arange(N_CELLS), 10, seed=0, n_samples_per_label=4)
    for number in (0, 1):
        target = torch.cat([batch.target for batch in epoch(loader, number)])
        assert torch.bincount(target[target >= 0]).tolist() == [4, 4]


def test_processes_do_not_read_a_file(stored: StoredCells) -> None:
    with pytest.raises(ArgumentError, match=r"num_workers: expected 0 for cells in a file.* found 2"):
        training_loader(stored, np.arange(N_CELLS), 10, seed=0, num_workers=2)


def test_a_file_by_columns_is_refused(tmp_path: Path) -> None:
    adata = draw_adata(N_CELLS)
    adata.X = adata.X.tocsc()
    with pytest.raises(CountsError, match=r"stored by rows in X.*by columns \(CSC\).*tocsr"):
        set_up(in_hdf5(adata, tmp_path))


@STORES
@pytest.mark.parametrize("value", [0.5, -1.0, np.nan])
def test_what_is_no_count_is_found_in_the_middle_of_a_file(store: Store, value: float, tmp_path: Path) -> None:
    adata = draw_adata(N_CELLS)
    adata.X = adata.X.toarray()
    adata.X[31, 2] = value
    adata.X = sp.csr_matrix(adata.X)
    with pytest.raises(CountsError, match=rf"raw counts.* in X, found {value:g} for feature 'GENE2' in cell 'cell31'"):
        set_up(store(adata, tmp_path))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    adata = draw_adata(N_CELLS)
    adata.X.indices[100] = 6
    with pytest.raises(CountsError, match="damaged"):
        set_up(in_hdf5(adata, tmp_path))


def test_a_folder_deleted_under_training_is_an_error(tmp_path: Path, narrow_windows: None) -> None:
    stored = set_up(in_zarr(draw_adata(N_CELLS), tmp_path))[1]
    batches = iter(training_loader(stored, np.arange(N_CELLS), 10, seed=0))
    next(batches)
    shutil.rmtree(tmp_path / "cells.zarr")
    with pytest.raises(RegistrationError, match="changed, moved or deleted meanwhile; leave it in place"):
        list(batches)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere, a file that is open cannot be deleted")
def test_a_file_deleted_under_training_is_read_to_its_end(tmp_path: Path, in_memory: Cells) -> None:
    stored = set_up(in_hdf5(draw_adata(N_CELLS), tmp_path))[1]
    (tmp_path / "cells.h5ad").unlink()
    assert_same(stored.to_batch(), in_memory.to_batch())


def test_a_file_changed_under_training_is_an_error(tmp_path: Path) -> None:
    stored = set_up(in_zarr(draw_adata(N_CELLS), tmp_path))[1]
    zarr.open_group(tmp_path / "cells.zarr", mode="r+")["X/data"][40:60] = 0
    with pytest.raises(RegistrationError, match="found others in its row"):
        stored[:]


def test_a_file_closed_under_training_is_an_error(tmp_path: Path) -> None:
    adata = in_hdf5(draw_adata(N_CELLS), tmp_path)
    stored = set_up(adata)[1]
    adata.file.close()
    with pytest.raises(RegistrationError, match=r"cannot be read .*; keep the file whole, open and in place"):
        stored[:5]


class PowerCut(L.Callback):
    """Ends a run with an error before its third epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, narrow_windows: None) -> None:
    adata = in_hdf5(draw_adata(N_CELLS), tmp_path)
    options = {**FAST, "batch_size": 10, "early_stopping": False, "reduce_lr_on_plateau": False}

    def model() -> TOTALANVI:
        set_up(adata)
        return TOTALANVI(adata, n_latent=3, n_hidden=8, seed=0)

    whole, stopped = model(), model()
    whole.train(max_epochs=3, **options)

    with pytest.raises(RuntimeError, match="power cut"):
        stopped.train(max_epochs=3, resume_folder=tmp_path / "run", callbacks=[PowerCut()], **options)
    resumed = model()
    resumed.train(max_epochs=3, resume_folder=tmp_path / "run", **options)
    for name, weight in whole.module.state_dict().items():
        torch.testing.assert_close(resumed.module.state_dict()[name], weight, rtol=0, atol=0)
