"""Where the raw counts of an AnnData are, when nobody has said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from totalanvi.formats.counts_place import Place, find_counts, named_place
from totalanvi.formats.errors import FormatError

X, RAW, COUNTS, OTHER = Place("X"), Place("raw"), Place("layer", "counts"), Place("layer", "other")


def counts(seed: int = 1, n_cells: int = 700) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.4, (n_cells, 9)).astype(np.float32)


@pytest.mark.parametrize("place", [X, COUNTS, RAW])
@pytest.mark.parametrize(
    "store",
    [np.asarray, sparse.csr_matrix, sparse.csr_array, lambda x: x.astype(np.float16), lambda x: x.astype(">f4")],
)
def test_the_only_place_with_counts_is_found(place: Place, store: Any) -> None:
    matrices = {where: store(np.log1p(counts())) for where in (X, COUNTS, OTHER, RAW)}
    matrices[place] = store(counts())
    assert find_counts(matrices) == place


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_counts_may_be_of_any_type(dtype: type) -> None:
    assert find_counts({X: counts() - 0.5, COUNTS: (counts() > 0).astype(dtype)}) == COUNTS


def test_a_single_place_is_not_looked_at() -> None:
    assert find_counts({OTHER: np.full((2, 2), 0.5)}) == OTHER


def test_copies_count_as_one() -> None:
    assert find_counts({X: counts(), COUNTS: sparse.csr_matrix(counts()), OTHER: counts() / 3}) == X
    assert find_counts({X: counts() / 3, COUNTS: counts(), RAW: counts()}) == COUNTS


def test_copies_of_what_is_no_count_are_left_to_whoever_reads_them() -> None:
    wrong = counts()
    wrong[3, 2] = np.nan
    assert find_counts({X: wrong, COUNTS: wrong.copy()}) == X


@pytest.mark.parametrize("row", [0, 20, 699])
def test_two_different_matrices_of_counts_are_refused(row: int) -> None:
    other = counts()
    other[row, 1] += 1
    with pytest.raises(FormatError, match=r"X holds raw counts; layer 'other' holds raw counts.*--layer"):
        find_counts({X: counts(), OTHER: other})


def test_it_says_what_each_place_holds() -> None:
    matrices = {
        X: np.log1p(counts()),
        COUNTS: counts() - 9,
        OTHER: np.zeros((700, 9)),
        Place("layer", "text"): np.full((700, 9), "a", dtype=object),
        RAW: np.full((700, 9), np.inf),
    }
    with pytest.raises(FormatError) as caught:
        find_counts(matrices, " of modality 'rna'")
    parts = ("X holds 0.693147", "'counts' holds -9", "'other' holds zeros only", "'text' holds values that are no")
    for part in (*parts, "raw holds inf", "in exactly one place of modality 'rna'", "before normalisation"):
        assert part in str(caught.value)


def test_cells_that_were_not_measured_do_not_count() -> None:
    measured = counts()
    measured[::2] = np.nan
    assert find_counts({X: np.log1p(measured), COUNTS: measured}) == COUNTS


def test_places_without_cells_are_the_same() -> None:
    assert find_counts({X: np.zeros((0, 3)), COUNTS: np.zeros((0, 3))}) == X


def test_names_of_places() -> None:
    places = (X, COUNTS, RAW, Place("layer", "raw"))
    assert named_place("counts", places) == COUNTS
    assert named_place("X", places) == X
    assert named_place("raw", places) == Place("layer", "raw"), "a layer's own name goes first"
    assert named_place("raw", places[:3]) == RAW
    assert named_place("other", places) is None
