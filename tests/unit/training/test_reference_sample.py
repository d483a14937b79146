"""The cells that travel with a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.reference_cells import draw_cells

from totalanvi.training.checkpoints.reference_sample import ReferenceSample, sample_reference
from totalanvi.training.data import Cells


def many_cells(sizes: list[int]) -> Cells:
    cells = draw_cells(n_cells=sum(sizes))
    return Cells(**{**cells.__dict__, "label": np.repeat(np.arange(len(sizes)) - 1, sizes)})


def test_rare_labels_are_among_the_landmarks() -> None:
    cells = many_cells([2_000, 4_000, 30])
    train, held_out = np.arange(6_030), np.arange(5)
    sample = sample_reference(cells, train, held_out)
    sizes = np.bincount(sample.landmarks.label + 1)
    assert sizes.sum() <= 2_000
    assert sizes[2] == 30
    assert sizes[0] / sizes[1] == pytest.approx(0.5**0.5, rel=0.01)
    again = sample_reference(cells, train, held_out)
    assert np.array_equal(again.landmarks.protein, sample.landmarks.protein)


def test_few_cells_are_all_kept_and_many_held_out_are_not() -> None:
    cells = many_cells([10, 4_200])
    sample = sample_reference(cells, np.arange(10), np.arange(10, 4_210))
    assert len(sample.landmarks) == 10
    assert len(sample.held_out) == 4_000


def test_arrays_hold_all_of_a_sample() -> None:
    cells = draw_cells()
    rng = np.random.default_rng(0)
    cells = Cells(
        **{
            **vars(cells),
            "categorical": rng.integers(0, 3, (len(cells), 2)),
            "continuous": rng.normal(size=(len(cells), 1)).astype(np.float32),
            "size_factor": rng.gamma(2.0, size=(len(cells), 1)).astype(np.float32),
        }
    )
    sample = ReferenceSample(cells[np.arange(8)], cells[np.arange(8, 8)])
    again = ReferenceSample.from_arrays({**sample.to_arrays(), "split.train": np.arange(8)})
    assert again is not None
    for part in ("landmarks", "held_out"):
        one, other = getattr(sample, part), getattr(again, part)
        assert (one.rna != other.rna).nnz == 0
        for name in vars(one):
            if name != "rna":
                assert np.array_equal(getattr(one, name), getattr(other, name)), name
                assert getattr(one, name).dtype == getattr(other, name).dtype, name
    assert ReferenceSample.from_arrays({"split.train": np.arange(8)}) is None
