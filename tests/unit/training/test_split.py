"""Every cell lands in one part at most, and the parts have the sizes that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from totalanvi.training.errors import ArgumentError
from totalanvi.training.fitting.split import split_cells


@given(
    n_cells=st.integers(1, 3_000),
    train_size=st.floats(0.01, 1.0),
    rest=st.floats(0.0, 1.0),
    shuffle=st.booleans(),
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_and_complete(
    n_cells: int, train_size: float, rest: float, shuffle: bool, seed: int
) -> None:
    validation_size = rest * (1 - train_size)
    split = split_cells(n_cells, train_size, validation_size, shuffle, seed)
    together = np.concatenate([split.train, split.validation, split.test])
    assert np.array_equal(np.sort(together), np.arange(n_cells))
    assert len(split.train) >= 1
    assert abs(len(split.train) - train_size * n_cells) <= 1
    assert abs(len(split.validation) - validation_size * n_cells) <= 1
    for part in (split.train, split.validation, split.test):
        assert (np.diff(part) > 0).all()


@given(st.integers(2, 3_000))
def test_by_default_nothing_is_left_for_a_test(n_cells: int) -> None:
    split = split_cells(n_cells)
    assert len(split.test) == 0
    assert len(split.validation) == n_cells // 10


def test_the_seed_chooses() -> None:
    one, again, other = (split_cells(100, seed=seed).train for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_without_shuffling_the_parts_follow_each_other() -> None:
    split = split_cells(10, 0.5, 0.2, shuffle_set_split=False)
    assert split.validation.tolist() == [0, 1]
    assert split.train.tolist() == [2, 3, 4, 5, 6]
    assert split.test.tolist() == [7, 8, 9]


def test_parts_from_outside() -> None:
    split = split_cells(6, external_indexing=[np.array([3, 1]), np.array([0])])
    assert split.train.tolist() == [3, 1]
    assert split.validation.tolist() == [0]
    assert len(split.test) == 0


def test_parts_may_be_masks_empty_or_nothing() -> None:
    mask = np.array([True, False, True, False, False, True])
    for validation in (None, [], np.array([])):
        split = split_cells(6, external_indexing=[mask, validation, np.array([3])])
        assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([0, 2, 5], [], [3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 0.0}, r"train_size: expected a number above 0 and at most 1, found 0\.0"),
        ({"train_size": 1.2}, r"found 1\.2"),
        ({"train_size": 0.8, "validation_size": 0.3}, r"expected 1 in all at most, found 0\.8 and 0\.3"),
        ({"validation_size": -0.1}, r"validation_size: expected a number of at least 0, found -0\.1"),
        ({"external_indexing": []}, "found 0 lists"),
        ({"external_indexing": [[0], [1], [2], [3]]}, "found 4 lists"),
        ({"external_indexing": [[], [1]]}, "expected training cells in its first list, found none"),
        ({"external_indexing": [[0, 1], [1]]}, "one part at most"),
        (
            {"external_indexing": [[0.5, 1.0]]},
            "expected positions of cells, or a mask of all 10, found values of type float64; look",
        ),
        ({"external_indexing": [[True, False]]}, "expected a mask of the 10 cells, found one of 2"),
        ({"external_indexing": [["cell0"]]}, "found values of type <U5"),
        ({"external_indexing": [[0, 10]]}, "expected 0 to 9, found 10"),
        ({"external_indexing": [[0, -1]]}, "expected 0 to 9, found -1"),
    ],
)
def test_shares_and_parts_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        split_cells(10, **options)
