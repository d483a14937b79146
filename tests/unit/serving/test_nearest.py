"""The nearest points, against all distances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from totalanvi.serving.engine.nearest import NearestSearch


def all_distances(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
    return np.sort(np.linalg.norm(cells[:, None].astype(np.float64) - points, axis=2), axis=1)


@settings(max_examples=40, deadline=None)
@given(
    n_points=st.integers(1, 400),
    n_dimensions=st.integers(1, 21),
    n_nearest=st.integers(1, 20),
    clusters=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_none_is_missed(n_points: int, n_dimensions: int, n_nearest: int, clusters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = 5 * rng.standard_normal((clusters, n_dimensions))
    points = (centres[rng.integers(clusters, size=n_points)] + rng.standard_normal((n_points, n_dimensions))).astype(
        "f4"
    )
    # Among them one that is a point, and one far from all.
    cells = np.concatenate([rng.standard_normal((5, n_dimensions)), points[:1], points[:1] + 1e4]).astype("f4")
    n_nearest = min(n_nearest, n_points)
    index, distance = NearestSearch(points).find(cells, n_nearest)
    np.testing.assert_allclose(distance, all_distances(points, cells)[:, :n_nearest], rtol=1e-6)
    # Each is what it says it is, and none is named twice.
    np.testing.assert_allclose(distance, np.linalg.norm(cells[:, None].astype(np.float64) - points[index], axis=2))
    assert all(len(set(row)) == n_nearest for row in index.tolist())


@pytest.mark.parametrize("n_points", [1, 64, 65, 200])
def test_points_that_are_all_the_same(n_points: int) -> None:
    points = np.ones((n_points, 3), dtype=np.float32)
    index, distance = NearestSearch(points).find(np.zeros((2, 3), dtype=np.float32), min(n_points, 15))
    np.testing.assert_allclose(distance, np.sqrt(3))
    assert all(len(set(row)) == min(n_points, 15) for row in index.tolist())


def test_no_more_are_asked_for_than_the_search_keeps() -> None:
    search = NearestSearch(np.zeros((30, 2), dtype=np.float32))
    assert search.find(np.zeros((1, 2), dtype=np.float32), 20)[0].shape == (1, 20)
    with pytest.raises(ValueError, match="expected 20 at most, found 21"):
        search.find(np.zeros((1, 2), dtype=np.float32), 21)
