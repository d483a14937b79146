"""Cells in mini-batches: in order for results, shuffled anew each epoch for training.

Cells whose RNA lies in a file come by way of windows that a thread reads ahead (`windows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from totalanvi.training.data import UNLABELLED, CellBatch, Cells, StoredCells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.windows import Window, WindowReader, cells_per_window, order_in_blocks, windows_of

__all__ = ["TrainingBatch", "cell_loader", "training_loader"]


class _OrderedCells(Dataset[CellBatch]):
    """Serves whole mini-batches: one slice of the sparse rows instead of a cell at a time."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp]):
        self.cells = cells
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: Sequence[int]) -> CellBatch:
        return self.cells[self.indices[np.asarray(positions)]].to_batch()


class _WindowDraw(NamedTuple):
    """A mini-batch out of a window: rows of it, and whether each one's label counts, both (cells,)."""

    window: Window
    coming: Window | None
    """The one after it."""
    rows: npt.NDArray[np.intp]
    counts: npt.NDArray[np.bool_] | None = None


class _WindowsInOrder(Sampler[_WindowDraw]):
    """Mini-batches one after another, window by window."""

    def __init__(self, cells: StoredCells, indices: npt.NDArray[np.intp], batch_size: int):
        self.indices = indices
        self.batch_size = batch_size
        self.window_size = cells_per_window(cells, batch_size)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[_WindowDraw]:
        for window, coming in windows_of(self.indices, self.window_size, ascending=False):
            rows = np.arange(len(window.cells))
            for start in range(0, len(rows), self.batch_size):
                yield _WindowDraw(window, coming, rows[start : start + self.batch_size])


class _StoredCells(Dataset[CellBatch]):
    """Serves mini-batches out of windows."""

    def __init__(self, cells: StoredCells):
        self.reader = WindowReader(cells)

    def __getitem__(self, draw: _WindowDraw) -> CellBatch:
        batch = self.reader.take(draw.window, draw.coming)[draw.rows].to_batch()
        return batch if draw.counts is None else _with_target(batch, draw.counts)


def cell_loader(
    cells: Cells, indices: npt.NDArray[np.intp] | None = None, batch_size: int = 256
) -> DataLoader[CellBatch]:
    """Iterate over cells in mini-batches, in the order given.

    Parameters
    ----------
    cells
        Registered cells.
    indices
        Which cells, in which order; all by default.
    batch_size
        Cells in a mini-batch.
    """
    indices = np.arange(len(cells)) if indices is None else np.asarray(indices)
    if isinstance(cells, StoredCells):
        return _loader(_StoredCells(cells), _WindowsInOrder(cells, indices, batch_size))
    batches = BatchSampler(range(len(indices)), batch_size, drop_last=False)
    return _loader(_OrderedCells(cells, indices), batches)


@dataclass(frozen=True)
class TrainingBatch(CellBatch):
    """A mini-batch that trains."""

    target: Tensor
    """Label codes that the classification loss counts, (cells,); `UNLABELLED` for cells that this epoch leaves out."""


def _with_target(batch: CellBatch, counts: npt.NDArray[np.bool_]) -> TrainingBatch:
    target = torch.where(torch.from_numpy(counts), batch.label, UNLABELLED)
    return TrainingBatch(**batch.__dict__, target=target)


class _Draw(NamedTuple):
    """A mini-batch of an epoch: positions of its cells, and whether each one's label counts, both (cells,)."""

    positions: npt.NDArray[np.intp]
    counts: npt.NDArray[np.bool_]


class _ShuffledCells(Dataset[TrainingBatch]):
    """Serves the mini-batches that `_Shuffled` draws."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp]):
        self.cells = cells
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: _Draw) -> TrainingBatch:
        return _with_target(self.cells[self.indices[draw.positions]].to_batch(), draw.counts)


class _Shuffled(Sampler[Any]):
    """Mini-batches in an order that depends on the seed and the epoch alone, so that a resumed run sees the same.

    It yields whole mini-batches because Lightning tells the epoch to a loader's sampler, and to no sampler inside it.
    """

    def __init__(
        self, label: npt.NDArray[np.int64], batch_size: int, seed: int, n_samples_per_label: int | None, drop_last: bool
    ):
        n = len(label)
        self.label = label
        self.batch_size = batch_size
        self.seed = seed
        self.n_samples_per_label = n_samples_per_label
        self.n_used = n
        if drop_last and n > batch_size:
            self.n_used -= n % batch_size
        elif n > batch_size and n % batch_size == 1:
            self.n_used -= 1  # batch norm has no variance for a single cell
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_used // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.label))[: self.n_used]
        counts = _choose_per_label(self.label, self.n_samples_per_label, rng)
        for start in range(0, self.n_used, self.batch_size):
            positions = order[start : start + self.batch_size]
            yield _Draw(positions, counts[positions])


class _ShuffledWindows(_Shuffled):
    """The same for cells of a file: blocks of neighbours in a random order, shuffled within windows of 64 of them."""

    def __init__(self, cells: StoredCells, indices: npt.NDArray[np.intp], batch_size: int, *options: Any):
        self.indices = np.sort(indices)  # neighbours in the file
        super().__init__(cells.label[self.indices], batch_size, *options)
        self.window_size = cells_per_window(cells, batch_size)

    def __iter__(self) -> Iterator[_WindowDraw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = order_in_blocks(len(self.label), self.window_size, rng)[: self.n_used]
        counts = _choose_per_label(self.label, self.n_samples_per_label, rng)
        for window, coming in windows_of(self.indices[order], self.window_size, ascending=True):
            counted = counts[np.searchsorted(self.indices, window.cells)]
            within = rng.permutation(len(window.cells))
            for start in range(0, len(within), self.batch_size):
                rows = within[start : start + self.batch_size]
                yield _WindowDraw(window, coming, rows, counted[rows])


def _choose_per_label(
    label: npt.NDArray[np.int64], most: int | None, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose at most so many cells of each label at random, (cells,)."""
    chosen: npt.NDArray[np.bool_] = label != UNLABELLED
    if most is None:
        return chosen
    order = rng.permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    # Rank of a cell among those of its label, in random order.
    in_order = label[order]
    begins = np.searchsorted(in_order, in_order)
    chosen[order[np.arange(len(label)) - begins >= most]] = False
    return chosen


def training_loader(
    cells: Cells,
    indices: npt.NDArray[np.intp],
    batch_size: int,
    seed: int,
    n_samples_per_label: int | None = None,
    drop_last: bool = False,
    num_workers: int = 0,
) -> DataLoader[TrainingBatch]:
    """Iterate over training cells in mini-batches, in another order each epoch.

    Parameters
    ----------
    cells
        Registered cells.
    indices
        Which of them train.
    batch_size
        Cells in a mini-batch. A last mini-batch of a single cell is left out: batch norm has no variance for it.
    seed
        With the epoch, it sets the order and the choice of labels.
    n_samples_per_label
        Most cells of a label that are a target in one epoch; all labelled cells when `None`.
    drop_last
        Leave out a last mini-batch that is not full; not if it is the only one.
    num_workers
        Processes that make mini-batches ahead of time; of cells in memory.

    Raises
    ------
    ArgumentError
        For processes that would read cells of a file.
    """
    if isinstance(cells, StoredCells):
        if num_workers:
            raise ArgumentError(
                f"num_workers: expected 0 for cells in a file, which a thread of this process reads ahead, found "
                f"{num_workers}; leave it out."
            )
        stored = _ShuffledWindows(cells, indices, batch_size, seed, n_samples_per_label, drop_last)
        return _loader(_StoredCells(cells), stored)
    batches = _Shuffled(cells.label[indices], batch_size, seed, n_samples_per_label, drop_last)
    return _loader(_ShuffledCells(cells, np.asarray(indices)), batches, num_workers)


def _loader(dataset: Dataset[Any], batches: Sampler[Any], num_workers: int = 0) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        # A loader draws a seed for its workers whenever it is iterated. Drawn from the global generator, it would shift
        # the numbers of a resumed run, which iterates at another moment.
        generator=torch.Generator(),
    )
