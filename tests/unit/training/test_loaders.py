"""Mini-batches that train: their order and their targets depend on seed and epoch alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells

from totalanvi.training import loaders
from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.loaders import TrainingBatch, cell_loader, training_loader

N_CELLS = 25
LABELS = np.repeat([UNLABELLED, 0, 1, 2], [5, 12, 2, 6])


def numbered(n_cells: int = N_CELLS, **fields: object) -> Cells:
    """Cells told apart by a batch code of their own."""
    return Cells(**{**draw_cells(n_cells=n_cells).__dict__, "batch": np.arange(n_cells), **fields})


def epoch(loader: object, number: int) -> list[TrainingBatch]:
    loader.sampler.set_epoch(number)  # what Lightning does
    return list(loader)


def order(batches: list[TrainingBatch]) -> list[int]:
    return torch.cat([batch.batch for batch in batches]).tolist()


def targets(batches: list[TrainingBatch]) -> dict[int, int]:
    """The label that each cell is asked for, by cell."""
    codes = torch.cat([batch.target for batch in batches]).tolist()
    return {cell: code for cell, code in zip(order(batches), codes, strict=True) if code != UNLABELLED}


def test_shuffling_depends_on_seed_and_epoch_alone() -> None:
    loader = training_loader(numbered(), np.arange(N_CELLS), batch_size=10, seed=1)
    first, second, again = (order(epoch(loader, number)) for number in (0, 1, 0))
    assert sorted(first) == list(range(N_CELLS))
    assert first != second
    assert first == again
    assert order(epoch(training_loader(numbered(), np.arange(N_CELLS), 10, seed=2), 0)) != first


def test_only_the_cells_asked_for_train() -> None:
    some = np.array([3, 20, 7, 11])
    assert sorted(order(epoch(training_loader(numbered(), some, 2, seed=0), 0))) == sorted(some)


@pytest.mark.parametrize(("n_cells", "sizes"), [(21, [10, 10]), (22, [10, 10, 2]), (20, [10, 10]), (1, [1]), (7, [7])])
def test_a_lone_last_cell_is_left_out(n_cells: int, sizes: list[int]) -> None:
    loader = training_loader(draw_cells(n_cells=n_cells), np.arange(n_cells), 10, seed=0)
    assert [batch.n_cells for batch in loader] == sizes
    assert len(loader) == len(sizes)
    kept = cell_loader(draw_cells(n_cells=n_cells), batch_size=10)
    assert sum(batch.n_cells for batch in kept) == n_cells


@pytest.mark.parametrize(("n_cells", "sizes"), [(29, [10, 10]), (20, [10, 10]), (7, [7])])
def test_a_last_mini_batch_that_is_not_full_may_be_left_out(n_cells: int, sizes: list[int]) -> None:
    loader = training_loader(draw_cells(n_cells=n_cells), np.arange(n_cells), 10, seed=0, drop_last=True)
    assert [batch.n_cells for batch in loader] == sizes
    assert len(loader) == len(sizes)


def test_all_labels_are_targets_unless_told_otherwise() -> None:
    loader = training_loader(numbered(label=LABELS), np.arange(N_CELLS), 10, seed=0)
    assert targets(epoch(loader, 0)) == {cell: code for cell, code in enumerate(LABELS) if code != UNLABELLED}


def test_at_most_so_many_cells_of_a_label_are_targets() -> None:
    loader = training_loader(numbered(label=LABELS), np.arange(N_CELLS), 10, seed=0, n_samples_per_label=4)
    epochs = [epoch(loader, number) for number in (0, 1, 2, 0)]
    for batches in epochs:
        chosen = targets(batches)
        assert np.bincount(list(chosen.values())).tolist() == [4, 2, 4]
        assert all(LABELS[cell] == code for cell, code in chosen.items())
        # The cell itself and its label stay: only the classification loss leaves it out.
        assert sorted(order(batches)) == list(range(N_CELLS))
        codes = torch.cat([batch.label for batch in batches]).tolist()
        assert codes == LABELS[order(batches)].tolist()
    first, second, third, again = map(targets, epochs)
    assert first == again
    assert first != second != third
    # Over many epochs every cell has its turn, as often as any other.
    turns = np.bincount([cell for number in range(300) for cell in targets(epoch(loader, number))], minlength=N_CELLS)
    assert turns[LABELS == 0] == pytest.approx(100, abs=35)
    assert (turns[LABELS == 1] == 300).all()
    assert turns[LABELS == UNLABELLED].sum() == 0


def test_targets_do_not_change_the_order() -> None:
    cells, everyone = numbered(label=LABELS), np.arange(N_CELLS)
    plain, chosen = (training_loader(cells, everyone, 10, 0, most) for most in (None, 2))
    assert order(epoch(plain, 3)) == order(epoch(chosen, 3))


def test_targets_are_chosen_among_the_cells_that_train() -> None:
    train = np.array([2, 5, 6, 7, 17, 18])
    loader = training_loader(numbered(label=LABELS), train, 4, seed=0, n_samples_per_label=1)
    chosen = targets(epoch(loader, 0))
    assert sorted(chosen.values()) == [0, 1]
    assert set(chosen) <= set(train)


def test_targets_follow_to_the_device() -> None:
    (batch,) = training_loader(numbered(label=LABELS), np.arange(N_CELLS), N_CELLS, seed=0, n_samples_per_label=2)
    moved = batch.to("cpu")
    assert isinstance(moved, TrainingBatch)
    assert torch.equal(moved.target, batch.target)


def test_workers_make_the_same_mini_batches() -> None:
    alone, helped = (
        epoch(training_loader(numbered(label=LABELS), np.arange(N_CELLS), 10, 0, 3, num_workers=n), 1) for n in (0, 1)
    )
    assert order(alone) == order(helped)
    assert targets(alone) == targets(helped)
    assert torch.equal(alone[0].rna.to_dense(), helped[0].rna.to_dense())


def test_cells_that_lie_on_a_device_come_in_the_same_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "_fit_on_device", lambda *_: True)
    cells, train = numbered(label=LABELS), np.arange(3, N_CELLS)
    sent, kept = (
        epoch(training_loader(cells, train, 10, 0, 3, device=device), 1) for device in (None, torch.device("cpu"))
    )
    for one, other in zip(sent, kept, strict=True):
        for field in fields(TrainingBatch):
            if field.name != "rna":
                assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
        for part in ("row_starts", "columns", "values"):
            assert torch.equal(getattr(one.rna, part), getattr(other.rna, part)), part


def test_mini_batches_that_are_read_ahead_are_the_same() -> None:
    cells, train = numbered(label=LABELS), np.arange(3, N_CELLS)
    with ThreadPoolExecutor(1) as beside:
        ahead = training_loader(cells, train, 10, 0, 3, beside=beside)
        next(iter(ahead))  # an epoch that is broken off has read one that nobody asks for
        found = [epoch(ahead, number) for number in (1, 2)]
    plain = training_loader(cells, train, 10, 0, 3)
    assert len(ahead) == len(plain)
    for number, batches in enumerate(found, 1):
        for one, other in zip(batches, epoch(plain, number), strict=True):
            for field in fields(TrainingBatch):
                if field.name != "rna":
                    assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name
            assert torch.equal(one.rna.to_dense(), other.rna.to_dense())


def test_what_fails_ahead_fails_when_its_turn_comes() -> None:
    cells = numbered(protein=np.zeros((N_CELLS - 1, 3), np.float32))  # the last cell has none
    with ThreadPoolExecutor(1) as beside:
        batches = iter(training_loader(cells, np.arange(N_CELLS), 10, seed=0, beside=beside))
        with pytest.raises(IndexError):
            list(batches)
