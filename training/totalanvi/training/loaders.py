"""Cells in mini-batches: in order for results, shuffled anew each epoch for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from totalanvi.training.data import CellBatch, Cells

__all__ = ["CellDataset", "cell_loader"]


class CellDataset(Dataset[CellBatch]):
    """Serves whole mini-batches: one slice of the sparse rows instead of a cell at a time."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp]):
        self.cells = cells
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: Sequence[int]) -> CellBatch:
        return self.cells[self.indices[np.asarray(positions)]].to_batch()


class _ShuffledBatches(Sampler[list[int]]):
    """Mini-batches in an order that depends on the seed and the epoch alone, so that a resumed run sees the same.

    It yields whole mini-batches because Lightning tells the epoch to a loader's sampler, and to no sampler inside it.
    """

    def __init__(self, n: int, batch_size: int, seed: int):
        # Batch norm has no variance for a single cell.
        self.n_used = n - 1 if n > batch_size and n % batch_size == 1 else n
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_used // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)[: self.n_used]
        for start in range(0, self.n_used, self.batch_size):
            yield order[start : start + self.batch_size].tolist()


def cell_loader(
    cells: Cells,
    indices: npt.NDArray[np.intp] | None = None,
    batch_size: int = 256,
    shuffle_seed: int | None = None,
) -> DataLoader[CellBatch]:
    """Iterate over cells in mini-batches.

    Parameters
    ----------
    cells
        Registered cells.
    indices
        Which cells, in which order; all by default.
    batch_size
        Cells in a mini-batch.
    shuffle_seed
        Shuffle anew each epoch from this seed; the order given when `None`. When shuffling, a last mini-batch of a
        single cell is left out: batch norm has no variance for it.
    """
    indices = np.arange(len(cells)) if indices is None else np.asarray(indices)
    batches: Sampler[list[int]]
    if shuffle_seed is None:
        batches = BatchSampler(range(len(indices)), batch_size, drop_last=False)
    else:
        batches = _ShuffledBatches(len(indices), batch_size, shuffle_seed)
    loader: DataLoader[Any] = DataLoader(
        CellDataset(cells, indices),
        sampler=batches,
        batch_size=None,
        # A loader draws a seed for its workers whenever it is iterated. Drawn from the global generator, it would shift
        # the numbers of a resumed run, which iterates at another moment.
        generator=torch.Generator(),
    )
    return loader
