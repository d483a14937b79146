"""Several processes share mini-batches: each cell is in one of them once an epoch; means are those of one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells
from torch import Tensor

from totalanvi.training.data import UNLABELLED, Cells, StoredCells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.metrics import EpochMeans, LabelScores
from totalanvi.training.fitting.placement import placement
from totalanvi.training.loaders import TrainingBatch, cell_loader, training_loader
from totalanvi.training.ranks import Rank, cuts
from totalanvi.training.stored_counts import StoredCounts

N_CELLS = 57
BATCH_SIZE = 10


class InMemory:
    """A table that need not be in a file to be read like one; slabs, and so windows, of few cells."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.shape = rows.shape

    def read(self, start: int, stop: int) -> Any:
        return self.rows[start:stop]

    def stop_of_slab(self, start: int) -> int:
        return min(start + 8, self.shape[0])


def numbered(stored: bool) -> Cells:
    """Cells told apart by a batch code of their own."""
    cells = draw_cells(n_cells=N_CELLS)
    others = {**cells.__dict__, "batch": np.arange(N_CELLS)}
    if not stored:
        return Cells(**others)
    lengths = np.diff(cells.rna.indptr).astype(np.int32)
    counts = StoredCounts(InMemory(cells.rna), "X", lengths, np.asarray(cells.rna.sum(axis=1)).ravel())
    return StoredCells(**{**others, "rna": counts})


@pytest.fixture(params=[False, True], ids=["memory", "file"])
def cells(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cells:
    monkeypatch.setattr("totalanvi.training.windows._MOST_CELLS", 2 * BATCH_SIZE)
    return numbered(request.param)


def epoch(cells: Cells, n_ranks: int, **options: Any) -> list[list[TrainingBatch]]:
    """Mini-batches of an epoch, and the parts of each that the processes have."""
    loaders = [
        training_loader(cells, np.arange(N_CELLS), BATCH_SIZE, 3, rank=Rank(rank, n_ranks), **options)
        for rank in range(n_ranks)
    ]
    for loader in loaders:
        loader.sampler.set_epoch(2)  # type: ignore[attr-defined]  # what Lightning does
    parts = [list(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(part) for part in parts] == [6] * n_ranks
    return [list(of_ranks) for of_ranks in zip(*parts, strict=True)]


def codes(batches: list[TrainingBatch]) -> list[int]:
    return torch.cat([batch.batch for batch in batches]).tolist()


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_an_epoch_has_each_cell_once_over_all_processes(cells: Cells, n_ranks: int) -> None:
    shared = epoch(cells, n_ranks)
    assert sorted(cell for of_ranks in shared for cell in codes(of_ranks)) == list(range(N_CELLS))
    sizes = [[part.n_cells for part in of_ranks] for of_ranks in shared]
    assert min(map(min, sizes)) > 0
    assert sum(sizes[-1]) == pytest.approx(N_CELLS % BATCH_SIZE, abs=n_ranks)


def test_processes_share_the_very_mini_batches_of_one() -> None:
    cells = numbered(stored=False)
    alone = [codes(batch) for batch in epoch(cells, 1)]
    assert [codes(of_ranks) for of_ranks in epoch(cells, 2)] == alone


@pytest.mark.parametrize("most", [None, 5])
def test_the_mean_over_processes_is_that_of_their_mini_batch(cells: Cells, most: int | None) -> None:
    """What is asked of a share: of any value of cells, and of targets, which may all be in one process."""
    value = torch.arange(N_CELLS, dtype=torch.float64).square()
    targets = 0
    for of_ranks in epoch(cells, 3, n_samples_per_label=most):
        means, target_means, all_targets = [], [], []
        for part in of_ranks:
            counted = part.target != UNLABELLED
            all_targets += part.batch[counted].tolist()
            means.append(part.shares[0] * value[part.batch].mean())
            target_means.append(part.shares[1] * value[part.batch[counted]].sum() / counted.sum().clamp(min=1))
        assert float(sum(means) / 3) == pytest.approx(float(value[codes(of_ranks)].mean()), rel=1e-6)
        expected = float(value[all_targets].mean()) if all_targets else 0.0
        assert float(sum(target_means) / 3) == pytest.approx(expected, rel=1e-6)
        targets += len(all_targets)
    label = draw_cells(n_cells=N_CELLS).label
    of_labels = np.bincount(label[label != UNLABELLED])
    assert targets == (of_labels if most is None else of_labels.clip(max=most)).sum()


def test_processes_read_parts_of_a_file_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("totalanvi.training.windows._MOST_CELLS", 2 * BATCH_SIZE)
    read: list[list[int]] = []
    for rank in range(2):
        cells = numbered(stored=True)
        rows = []
        take = cells.rna.stored.read  # type: ignore[attr-defined]

        def noting(start: int, stop: int, rows: list[int] = rows, take: Callable[..., Any] = take) -> Any:
            rows += range(start, stop)
            return take(start, stop)

        monkeypatch.setattr("totalanvi.training.stored_counts._GAP", 0)
        monkeypatch.setattr(cells.rna.stored, "read", noting)  # type: ignore[attr-defined]
        list(training_loader(cells, np.arange(N_CELLS), BATCH_SIZE, 3, rank=Rank(rank, 2)))
        read.append(rows)
    assert sorted(read[0] + read[1]) == list(range(N_CELLS))


@pytest.mark.parametrize("n_cells", [1, 2, 3, 10, 31, 57])
def test_validation_has_each_cell_once(cells: Cells, n_cells: int) -> None:
    loaders = [cell_loader(cells, np.arange(n_cells), BATCH_SIZE, Rank(rank, 3)) for rank in range(3)]
    seen = [list(loader) for loader in loaders]
    assert {len(batches) for batches in seen} == {len(loader) for loader in loaders} == {-(-n_cells // BATCH_SIZE)}
    assert all(batch.n_cells for batches in seen for batch in batches)
    of_all = sorted(code for batches in seen for code in codes(batches))
    # Too few to share: everybody has all of them, which leaves their mean what it is.
    assert of_all == (sorted(3 * list(range(n_cells))) if n_cells < 3 else list(range(n_cells)))


def test_no_mini_batch_of_a_process_is_empty() -> None:
    for n_ranks in (2, 3, 5):
        for n_all in range(n_ranks, 60):
            for n_own in {n_all // n_ranks, -(-n_all // n_ranks)}:
                assert (np.diff(cuts(n_own, n_all, 2 * n_ranks)) > 0).all()


def test_a_last_mini_batch_that_is_too_small_to_share_is_left_out() -> None:
    cells = draw_cells(n_cells=23)
    alone = training_loader(cells, np.arange(23), 10, 0)
    assert [batch.n_cells for batch in alone] == [10, 10, 3]
    shared = training_loader(cells, np.arange(23), 10, 0, rank=Rank(1, 2))
    assert [batch.n_cells for batch in shared] == [5, 5]


@pytest.mark.parametrize(("n_cells", "batch_size", "what"), [(23, 3, "batch_size"), (3, 10, "train_size")])
def test_processes_without_cells_are_refused(n_cells: int, batch_size: int, what: str) -> None:
    with pytest.raises(ArgumentError, match=f"{what}: expected 2 cells at least for each of the 2 processes.*found 3"):
        training_loader(draw_cells(n_cells=n_cells), np.arange(n_cells), batch_size, 0, rank=Rank(0, 2))


def test_metrics_are_those_of_all_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(50, 4, generator=generator), torch.randint(-1, 4, (50,), generator=generator)
    loss = torch.rand(50, generator=generator)
    alone = (EpochMeans(), LabelScores())
    both = [(EpochMeans(), LabelScores()) for _ in range(2)]
    for number, rows in enumerate(torch.arange(50).split(9)):
        for means, scores in (alone, both[number % 2]):
            means.add({"loss": loss[rows].mean(), "weight": 0.5}, len(rows))
            scores.add(logits[rows], label[rows])
    sent: list[Tensor] = []

    def send(values: Tensor) -> Tensor:
        sent.append(values)
        return values

    for kept, other in zip(both[0], both[1], strict=True):
        other.take(send)
        found = kept.take(lambda values: values + sent.pop(0))
        expected = alone[0].take() if isinstance(kept, EpochMeans) else alone[1].take()
        assert {name: float(value) for name, value in found.items()} == pytest.approx(
            {name: float(value) for name, value in expected.items()}, rel=1e-6
        )


def test_several_devices_need_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(ArgumentError, match=r"devices: expected a script or a command.*train on one device here"):
        placement("cpu", 2, 1, "auto")
    assert placement("cpu", "auto", 1, "ddp")["strategy"] == "auto"


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ArgumentError, match="devices: expected 2 at most, the GPUs that are here, found 3; ask for"):
        placement("auto", 3, 1, "auto")
