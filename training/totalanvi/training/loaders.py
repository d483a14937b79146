"""Cells in mini-batches: in order for results, shuffled anew each epoch for training.

Cells whose RNA lies in a file come by way of windows that a thread reads ahead (`windows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from totalanvi.training.data import UNLABELLED, CellBatch, Cells, StoredCells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.ranks import ALONE, Rank, cuts
from totalanvi.training.windows import Window, WindowReader, cells_per_window, in_turn, order_in_blocks

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
    shares: tuple[float, float] = (1.0, 1.0)


class _WindowsInOrder(Sampler[_WindowDraw]):
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

    def __iter__(self) -> Iterator[_WindowDraw]:
        windows = [Window(self.indices[edges[0] : edges[-1]]) for edges in self.windows]
        for edges, (window, coming) in zip(self.windows, in_turn(windows), strict=True):
            for rows in np.split(np.arange(len(window.cells)), edges[1:-1] - edges[0]):
                yield _WindowDraw(window, coming, rows)


class _StoredCells(Dataset[CellBatch]):
    """Serves mini-batches out of windows."""

    def __init__(self, cells: StoredCells):
        self.reader = WindowReader(cells)

    def __getitem__(self, draw: _WindowDraw) -> CellBatch:
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


def _shares(counts: list[npt.NDArray[np.bool_]], rank: Rank) -> tuple[float, float]:
    """Shares of this process, from whether the label of each cell counts in the parts of all processes."""
    n_cells = [len(part) for part in counts]
    n_targets = [int(part.sum()) for part in counts]
    return tuple(rank.n_ranks * n[rank.number] / max(sum(n), 1) for n in (n_cells, n_targets))  # type: ignore[return-value]


class _Draw(NamedTuple):
    """A mini-batch of an epoch: positions of its cells, and whether each one's label counts, both (cells,)."""

    positions: npt.NDArray[np.intp]
    counts: npt.NDArray[np.bool_]
    shares: tuple[float, float]


class _ShuffledCells(Dataset[TrainingBatch]):
    """Serves the mini-batches that `_Shuffled` draws."""

    def __init__(self, cells: Cells, indices: npt.NDArray[np.intp]):
        self.cells = cells
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: _Draw) -> TrainingBatch:
        return _with_target(self.cells[self.indices[draw.positions]].to_batch(), draw.counts, draw.shares)


class _Shuffled(Sampler[Any]):
    """Mini-batches in an order that depends on the seed and the epoch alone, so that a resumed run sees the same.

    It yields whole mini-batches because Lightning tells the epoch to a loader's sampler, and to no sampler inside it.
    """

    def __init__(
        self,
        label: npt.NDArray[np.int64],
        batch_size: int,
        seed: int,
        n_samples_per_label: int | None,
        drop_last: bool,
        rank: Rank,
    ):
        n = len(label)
        self.label = label
        self.batch_size = batch_size
        self.seed = seed
        self.n_samples_per_label = n_samples_per_label
        self.rank = rank
        last = n % batch_size
        # Batch norm has no variance for a single cell.
        left_out = n > batch_size and (drop_last or last < 2 * rank.n_ranks)
        self.n_used = n - last if left_out else n
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
            parts = self.rank.parts(order[start : min(start + self.batch_size, self.n_used)])
            positions = parts[self.rank.number]
            yield _Draw(positions, counts[positions], _shares([counts[part] for part in parts], self.rank))


class _ShuffledWindows(_Shuffled):
    """The same for cells of a file: blocks of neighbours in a random order, shuffled within windows of 64 of them.

    Of several processes, each has windows, and so blocks, of its own: none reads what the others do.
    """

    def __init__(self, cells: StoredCells, indices: npt.NDArray[np.intp], batch_size: int, *options: Any):
        self.indices = np.sort(indices)  # neighbours in the file
        super().__init__(cells.label[self.indices], batch_size, *options)
        self.window_size = cells_per_window(cells, batch_size)

    def __iter__(self) -> Iterator[_WindowDraw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = order_in_blocks(len(self.label), self.window_size, rng)[: self.n_used]
        counts = _choose_per_label(self.label, self.n_samples_per_label, rng)
        size = self.window_size * self.rank.n_ranks
        shared = [self.indices[order[start : start + size]] for start in range(0, self.n_used, size)]
        # In the order of the file, in which a window is read fastest.
        windows = [[Window(np.sort(part)) for part in self.rank.parts(cells)] for cells in shared]
        own = in_turn([of_all[self.rank.number] for of_all in windows])
        for of_all, (window, coming) in zip(windows, own, strict=True):
            n_cells = sum(len(each.cells) for each in of_all)
            # What the others draw is known, too: how many of their cells have a label.
            rows = [self._mini_batches(len(each.cells), n_cells, rng) for each in of_all]
            counted = [counts[np.searchsorted(self.indices, each.cells)] for each in of_all]
            for of_ranks in zip(*rows, strict=True):
                targets = [part[taken] for part, taken in zip(counted, of_ranks, strict=True)]
                number = self.rank.number
                yield _WindowDraw(window, coming, of_ranks[number], targets[number], _shares(targets, self.rank))

    def _mini_batches(self, n_own: int, n_all: int, rng: np.random.Generator) -> list[npt.NDArray[np.intp]]:
        return np.split(rng.permutation(n_own), cuts(n_own, n_all, self.batch_size)[1:-1])


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
    rank: Rank = ALONE,
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
        stored = _ShuffledWindows(cells, indices, batch_size, seed, n_samples_per_label, drop_last, rank)
        return _loader(_StoredCells(cells), stored)
    batches = _Shuffled(cells.label[indices], batch_size, seed, n_samples_per_label, drop_last, rank)
    return _loader(_ShuffledCells(cells, np.asarray(indices)), batches, num_workers)


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
