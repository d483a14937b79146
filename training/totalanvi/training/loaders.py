"""Cells in mini-batches: in order for results, shuffled anew each epoch for training.

Cells whose RNA lies in a file come by way of windows that a thread reads ahead (`windows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from totalanvi.training.data import UNLABELLED, CellBatch, Cells, StoredCells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.ranks import ALONE, Rank, cuts
from totalanvi.training.shuffled import Draw, Shuffled, ShuffledWindows, WindowDraw
from totalanvi.training.windows import Window, WindowReader, cells_per_window, in_turn

__all__ = ["TrainingBatch", "cell_loader", "training_loader"]

_BYTES_PER_COUNT = 12
"""Of a stored count on a device: its column and its value."""
_MOST_OF_DEVICE = 0.1
"""Share of a GPU's free memory that all training cells may take."""


class _OrderedCells(Dataset[CellBatch]):
    """Serves whole mini-batches: one slice of the sparse rows instead of a cell at a time."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp]):
        self.cells = cells
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: Sequence[int]) -> CellBatch:
        return self.cells[self.indices[np.asarray(positions)]].to_batch()


class _WindowsInOrder(Sampler[WindowDraw]):
    """Mini-batches one after another, window by window.

    Parameters
    ----------
    indices
        Cells, in order.
    edges
        Where mini-batches are cut, (mini-batches + 1,).
    batches_per_window
        Most mini-batches in a window.
    """

    def __init__(self, indices: npt.NDArray[np.intp], edges: npt.NDArray[np.intp], batches_per_window: int):
        self.indices = indices
        self.windows = [edges[i : i + batches_per_window + 1] for i in range(0, len(edges) - 1, batches_per_window)]
        self.n_batches = len(edges) - 1

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[WindowDraw]:
        windows = [Window(self.indices[edges[0] : edges[-1]]) for edges in self.windows]
        for edges, (window, coming) in zip(self.windows, in_turn(windows), strict=True):
            for rows in np.split(np.arange(len(window.cells)), edges[1:-1] - edges[0]):
                yield WindowDraw(window, coming, rows)


class _StoredCells(Dataset[CellBatch]):
    """Serves mini-batches out of windows."""

    def __init__(self, cells: StoredCells):
        self.reader = WindowReader(cells)

    def __getitem__(self, draw: WindowDraw) -> CellBatch:
        batch = self.reader.take(draw.window, draw.coming)[draw.rows].to_batch()
        return batch if draw.counts is None else _with_target(batch, draw.counts, draw.shares)


def cell_loader(
    cells: Cells, indices: npt.NDArray[np.intp] | None = None, batch_size: int = 256, rank: Rank = ALONE
) -> DataLoader[CellBatch]:
    """Iterate over cells in mini-batches, in the order given.

    Parameters
    ----------
    cells
        Registered cells.
    indices
        Which cells, in which order; all by default.
    batch_size
        Cells in a mini-batch, over all processes.
    rank
        Which of several processes this is: it has its part of the cells, in as many mini-batches as the others. Where
        there are fewer cells than processes, each has all of them.
    """
    indices = np.arange(len(cells)) if indices is None else np.asarray(indices)
    own = indices if len(indices) < rank.n_ranks else rank.part(indices)
    edges = cuts(len(own), len(indices), batch_size)
    if isinstance(cells, StoredCells):
        per_window = cells_per_window(cells, batch_size) // batch_size
        return _loader(_StoredCells(cells), _WindowsInOrder(own, edges, per_window))
    return _loader(_OrderedCells(cells, own), [range(*edge) for edge in pairwise(edges.tolist())])


@dataclass(frozen=True)
class TrainingBatch(CellBatch):
    """A mini-batch that trains."""

    target: Tensor
    """Label codes that the classification loss counts, (cells,); `UNLABELLED` for cells that this epoch leaves out."""
    shares: Tensor
    """What means over its cells, and over its targets, are multiplied by, (2,), so that the mean over all processes is
    that of the mini-batch which they share; 1 where one process trains alone."""


def _with_target(batch: CellBatch, counts: npt.NDArray[np.bool_], shares: tuple[float, float]) -> TrainingBatch:
    target = torch.where(torch.from_numpy(counts), batch.label, UNLABELLED)
    return TrainingBatch(**batch.__dict__, target=target, shares=torch.tensor(shares))


class _ShuffledCells(Dataset[TrainingBatch]):
    """Serves the mini-batches that `Shuffled` draws."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp]):
        self.cells = cells
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Draw) -> TrainingBatch:
        return _with_target(self.cells[self.indices[draw.positions]].to_batch(), draw.counts, draw.shares)


class _CellsOnDevice(Dataset[TrainingBatch]):
    """Serves the same, of cells that lie on a GPU: all that goes there with a mini-batch is which cells it has."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp], device: torch.device):
        training = cells[indices]
        self.n_stored = np.diff(training.rna.indptr)
        self.cells = training.to_batch().to(device)

    def __len__(self) -> int:
        return len(self.n_stored)

    def __getitem__(self, draw: Draw) -> TrainingBatch:
        drawn = draw.positions, draw.counts, np.array(draw.shares, np.float32)
        positions, counts, shares = _sent(drawn, self.cells.label.device)
        batch = self.cells.take(positions, int(self.n_stored[draw.positions].sum()))
        target = torch.where(counts, batch.label, UNLABELLED)
        return TrainingBatch(**batch.__dict__, target=target, shares=shares)


class _InTurn(Sampler[tuple[Any, Any]]):
    """Draws of mini-batches, each with the one after it; `None` after the last."""

    def __init__(self, draws: Shuffled):
        self.draws = draws

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.draws.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return pairwise(chain(self.draws, [None]))


class _ReadAhead(Dataset[TrainingBatch]):
    """Serves the mini-batches of another dataset; a thread beside reads the next one while this one trains."""

    def __init__(self, batches: Dataset[Any], beside: Executor):
        self._batches = batches
        self._beside = beside
        self._ahead: tuple[Any, Future[TrainingBatch]] | None = None

    def __getitem__(self, draws: tuple[Any, Any]) -> TrainingBatch:
        draw, coming = draws
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead is not None and ahead[0] is draw else self._read(draw)
        self._ahead = None if coming is None else (coming, self._beside.submit(self._read, coming))
        return batch

    def _read(self, draw: Any) -> TrainingBatch:
        batch: TrainingBatch = self._batches[draw]
        batch.rna.indexed()
        return batch


def _sent(arrays: Iterable[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Send arrays to a device, without waiting until they are there."""
    tensors = [torch.from_numpy(array) for array in arrays]
    pinned = [tensor.pin_memory() for tensor in tensors] if device.type == "cuda" else tensors
    return [tensor.to(device, non_blocking=True) for tensor in pinned]


def _fit_on_device(cells: Cells, indices: npt.NDArray[np.intp], device: torch.device) -> bool:
    """Whether training cells are in memory, and take little of what a GPU has left."""
    if device.type != "cuda" or isinstance(cells, StoredCells):
        return False
    n_values = cells.rna.nnz * len(indices) / len(cells)
    n_bytes = n_values * _BYTES_PER_COUNT + cells.protein[:1].nbytes * 1.25 * len(indices)
    return bool(n_bytes < _MOST_OF_DEVICE * torch.cuda.mem_get_info(device)[0])


def training_loader(
    cells: Cells,
    indices: npt.NDArray[np.intp],
    batch_size: int,
    seed: int,
    n_samples_per_label: int | None = None,
    drop_last: bool = False,
    num_workers: int = 0,
    rank: Rank = ALONE,
    device: torch.device | None = None,
    beside: Executor | None = None,
) -> DataLoader[TrainingBatch]:
    """Iterate over training cells in mini-batches, in another order each epoch.

    Parameters
    ----------
    cells
        Registered cells.
    indices
        Which of them train.
    batch_size
        Cells in a mini-batch, over all processes. A last mini-batch of fewer than two cells for each process is left
        out: batch norm has no variance for a single one.
    seed
        With the epoch, it sets the order and the choice of labels.
    n_samples_per_label
        Most cells of a label that are a target in one epoch; all labelled cells when `None`.
    drop_last
        Leave out a last mini-batch that is not full; not if it is the only one.
    num_workers
        Processes that make mini-batches ahead of time; of cells in memory.
    rank
        Which of several processes that train together this is: it has its part of each mini-batch.
    device
        Where they train. A GPU keeps all cells, where they take little of its memory and no other processes are asked
        to make mini-batches.
    beside
        A thread that reads a mini-batch while the one before it trains, where no other processes are asked to.

    Raises
    ------
    ArgumentError
        For processes that would read cells of a file; for fewer cells than two for each process that trains.
    """
    rank.require_enough("batch_size", batch_size, "raise it, or train on fewer devices")
    rank.require_enough("train_size", len(indices), "train on fewer devices")
    if isinstance(cells, StoredCells):
        if num_workers:
            raise ArgumentError(
                f"num_workers: expected 0 for cells in a file, which a thread of this process reads ahead, found "
                f"{num_workers}; leave it out."
            )
        stored = ShuffledWindows(cells, indices, batch_size, seed, n_samples_per_label, drop_last, rank)
        return _ahead_loader(_StoredCells(cells), stored, beside)
    batches = Shuffled(cells.label[indices], batch_size, seed, n_samples_per_label, drop_last, rank)
    if device is not None and not num_workers and _fit_on_device(cells, indices, device):
        return _loader(_CellsOnDevice(cells, np.asarray(indices), device), batches)
    in_memory = _ShuffledCells(cells, np.asarray(indices))
    return _loader(in_memory, batches, num_workers) if num_workers else _ahead_loader(in_memory, batches, beside)


def _ahead_loader(dataset: Dataset[Any], draws: Shuffled, beside: Executor | None) -> DataLoader[TrainingBatch]:
    return _loader(dataset, draws) if beside is None else _loader(_ReadAhead(dataset, beside), _InTurn(draws))


def _loader(dataset: Dataset[Any], batches: Iterable[Any], num_workers: int = 0) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        # A loader draws a seed for its workers whenever it is iterated. Drawn from the global generator, it would shift
        # the numbers of a resumed run, which iterates at another moment.
        generator=torch.Generator(),
    )
