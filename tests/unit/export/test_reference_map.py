"""The map keeps neighbours together, better than a projection does, whatever the size of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from totalanvi.export.reference_map import map_coordinates


def clusters(n_cells: int, n_clusters: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cluster = rng.integers(n_clusters, size=n_cells)
    return (rng.normal(size=(n_cells, 12)) + 5 * np.eye(12)[cluster]).astype(np.float32), cluster


def test_neighbours_stay_neighbours() -> None:
    latent, cluster = clusters(300)
    place = map_coordinates(latent)
    assert place.dtype == np.float32
    assert trustworthiness(latent, place) > 0.9 > trustworthiness(latent, PCA(2).fit_transform(latent)) + 0.05
    distance = np.linalg.norm(place[:, None] - place, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (cluster[distance.argmin(axis=1)] == cluster).mean() > 0.97


def test_same_latent_same_map() -> None:
    latent, _ = clusters(60)
    np.testing.assert_array_equal(map_coordinates(latent), map_coordinates(latent.copy()))


@pytest.mark.parametrize("n_cells", [2, 3, 15, 16, 17, 40])
def test_small_references(n_cells: int) -> None:
    latent, _ = clusters(n_cells)
    place = map_coordinates(latent)
    assert place.shape == (n_cells, 2)
    assert np.isfinite(place).all()
    assert len(np.unique(place, axis=0)) == n_cells


def test_few_cells_are_projected() -> None:
    latent, _ = clusters(12)
    place, expected = map_coordinates(latent), PCA(2).fit_transform(latent)
    for axis in range(2):
        assert abs(np.corrcoef(place[:, axis], expected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("latent", [np.ones((40, 3)), np.repeat(np.eye(3), 20, axis=0), np.arange(30.0)[:, None]])
def test_cells_at_one_place_and_one_dimension(latent: np.ndarray) -> None:
    assert np.isfinite(map_coordinates(latent)).all()
