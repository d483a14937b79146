"""Neighbours against brute force, novelty against counting."""

from __future__ import annotations

import numpy as np
import pytest

from totalanvi.serving.engine.neighbours import N_NEIGHBOURS, Landmarks, NoveltyScale


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_distance_is_that_of_brute_force(rng: np.random.Generator) -> None:
    # Far from the origin, so that a careless |x|² + |y|² − 2xy would lose all digits.
    reference = (rng.normal(size=(400, 10)) + 300).astype(np.float32)
    cells = (rng.normal(size=(70, 10)) + 300).astype(np.float32)
    exact = np.linalg.norm(cells[:, None].astype(np.float64) - reference, axis=2)
    found = Landmarks(reference, rng.normal(size=(400, 2))).find(cells)
    np.testing.assert_allclose(found.distance, np.sort(exact, axis=1)[:, :N_NEIGHBOURS].mean(axis=1), rtol=1e-6)


def test_cell_on_a_landmark_is_placed_near_it(rng: np.random.Generator) -> None:
    reference = rng.normal(size=(300, 2)).astype(np.float32)
    found = Landmarks(reference, reference).find(reference)
    # Coordinates that are the latent itself: a local average stays local.
    assert np.median(np.linalg.norm(found.coordinates - reference, axis=1)) < 0.15


def test_coordinates_do_not_jump_where_neighbours_change(rng: np.random.Generator) -> None:
    landmarks = Landmarks(rng.normal(size=(200, 3)), rng.normal(size=(200, 2)))
    path = np.linspace([-1, -1, -1], [1, 1, 1], 20_001)
    found = landmarks.find(path)
    assert np.abs(np.diff(found.coordinates, axis=0)).max() < 5e-3
    assert np.abs(np.diff(found.distance)).max() < 5e-3


@pytest.mark.parametrize("n_landmarks", [1, 2, N_NEIGHBOURS, N_NEIGHBOURS + 1])
def test_few_landmarks(n_landmarks: int, rng: np.random.Generator) -> None:
    reference = rng.normal(size=(n_landmarks, 4))
    coordinates = rng.normal(size=(n_landmarks, 2))
    found = Landmarks(reference, coordinates).find(rng.normal(size=(5, 4)))
    assert np.isfinite(found.distance).all()
    assert (found.coordinates <= coordinates.max(axis=0) + 1e-6).all()
    assert (found.coordinates >= coordinates.min(axis=0) - 1e-6).all()


def test_landmarks_all_at_one_place() -> None:
    coordinates = np.arange(40, dtype=np.float32).reshape(20, 2)
    found = Landmarks(np.ones((20, 3)), coordinates).find(np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]]))
    np.testing.assert_allclose(found.distance, [0, 1])
    np.testing.assert_allclose(found.coordinates, [coordinates[:N_NEIGHBOURS].mean(axis=0)] * 2)


def test_no_cell(rng: np.random.Generator) -> None:
    found = Landmarks(rng.normal(size=(30, 3)), rng.normal(size=(30, 2))).find(np.zeros((0, 3)))
    assert found.distance.shape == (0,)
    assert found.coordinates.shape == (0, 2)


def test_a_cell_alone_and_among_many(rng: np.random.Generator) -> None:
    landmarks = Landmarks(rng.normal(size=(500, 8)), rng.normal(size=(500, 2)))
    cells = rng.normal(size=(2_500, 8))
    together = landmarks.find(cells)
    for row in (0, 1_023, 1_024, 2_499):
        alone = landmarks.find(cells[row : row + 1])
        assert alone.distance[0] == together.distance[row]
        np.testing.assert_array_equal(alone.coordinates[0], together.coordinates[row])


def test_novelty_counts_held_out_cells(rng: np.random.Generator) -> None:
    held_out = np.sort(rng.gamma(5, size=1_000))
    scale = NoveltyScale(held_out)
    for distance in np.quantile(held_out, [0, 0.1, 0.5, 0.9]):
        share_at_least_as_far = (held_out >= distance).mean()
        assert scale.novelty(np.array([distance]))[0] == pytest.approx(1 - share_at_least_as_far, abs=2e-3)


def test_novelty_is_uniform_for_cells_like_the_held_out(rng: np.random.Generator) -> None:
    novelty = NoveltyScale(rng.gamma(5, size=2_000)).novelty(rng.gamma(5, size=2_000))
    np.testing.assert_allclose(np.quantile(novelty, [0.1, 0.5, 0.9, 0.99]), [0.1, 0.5, 0.9, 0.99], atol=0.04)


def test_novelty_stays_in_order_and_in_range(rng: np.random.Generator) -> None:
    held_out = rng.gamma(5, size=500)
    scale = NoveltyScale(held_out)
    distances = np.linspace(0, held_out.max() * 1.5, 5_000)
    novelty = scale.novelty(distances)
    assert novelty[0] == 0
    assert (np.diff(novelty) >= 0).all()
    beyond = scale.novelty(held_out.max() * np.array([1, 1.2, 1.5]))
    assert (np.diff(beyond) > 0).all()
    assert scale.novelty(np.array([1e30]))[0] == 1
    assert np.abs(np.diff(novelty)).max() < 0.05


@pytest.mark.parametrize("held_out", [[2.0], [2.0] * 50, [0.0] * 3, [1.0, 2.0]])
def test_novelty_from_few_or_equal_distances(held_out: list[float]) -> None:
    novelty = NoveltyScale(np.array(held_out)).novelty(np.array([0.0, max(held_out), max(held_out) + 1, 1e6]))
    assert np.isfinite(novelty).all()
    assert (np.diff(novelty) >= 0).all()
    assert novelty[0] == 0
    assert novelty[-1] == 1


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05, 0.01, 1e-4])
def test_the_score_at_a_share_has_that_p_value(share: float) -> None:
    scale = NoveltyScale(np.random.default_rng(0).gamma(3, size=500))
    assert 1 - scale.novelty(np.array([scale.score_at(share)]))[0] == pytest.approx(share, abs=2e-3 * share + 1e-6)
    assert scale.score_at(0) == np.inf
