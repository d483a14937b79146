"""Which cells come in which mini-batch of an epoch of training, and which of them each of several processes has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from totalanvi.training.data import UNLABELLED, StoredCells
from totalanvi.training.ranks import Rank, cuts
from totalanvi.training.windows import Window, cells_per_window, in_turn, order_in_blocks

__all__ = ["Draw", "Shuffled", "ShuffledWindows", "WindowDraw"]


class Draw(NamedTuple):
    """A mini-batch of an epoch: positions of its cells, and whether each one's label counts, both (cells,)."""

    positions: npt.NDArray[np.intp]
    counts: npt.NDArray[np.bool_]
    shares: tuple[float, float]


class WindowDraw(NamedTuple):
    """A mini-batch out of a window: rows of it, and whether each one's label counts, both (cells,)."""

    window: Window
    coming: Window | None
    """The one after it."""
    rows: npt.NDArray[np.intp]
    counts: npt.NDArray[np.bool_] | None = None
    shares: tuple[float, float] = (1.0, 1.0)


class Shuffled(Sampler[Any]):
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
            yield Draw(positions, counts[positions], _shares([counts[part] for part in parts], self.rank))


class ShuffledWindows(Shuffled):
    """The same for cells of a file: blocks of neighbours in a random order, shuffled within windows of 64 of them.

    Of several processes, each has windows, and so blocks, of its own: none reads what the others do.
    """

    def __init__(self, cells: StoredCells, indices: npt.NDArray[np.intp], batch_size: int, *options: Any):
        self.indices = np.sort(indices)  # neighbours in the file
        super().__init__(cells.label[self.indices], batch_size, *options)
        self.window_size = cells_per_window(cells, batch_size)

    def __iter__(self) -> Iterator[WindowDraw]:
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
                yield WindowDraw(window, coming, of_ranks[number], targets[number], _shares(targets, self.rank))

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


def _shares(counts: list[npt.NDArray[np.bool_]], rank: Rank) -> tuple[float, float]:
    """Shares of this process, from whether the label of each cell counts in the parts of all processes."""
    n_cells = [len(part) for part in counts]
    n_targets = [int(part.sum()) for part in counts]
    return tuple(rank.n_ranks * n[rank.number] / max(sum(n), 1) for n in (n_cells, n_targets))  # type: ignore[return-value]
