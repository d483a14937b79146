"""Surprise: what is far from every label, with the panel that was measured."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.readout import draw_readout_arrays

from totalanvi.serving.engine.density import LabelDensities

N_LABELS, N_COMPONENTS, N_PROTEINS = 3, 4, 5


def brute_force(arrays, components, protein, measured) -> np.ndarray:
    """Cell by cell, with inverses and determinants of the matrices that are left."""
    surprise = []
    for cell, panel in enumerate(measured):
        known = np.concatenate([np.ones(components.shape[1], dtype=bool), panel])
        x = np.concatenate([components[cell], protein[cell]])[known]
        shared = np.linalg.slogdet(arrays.density_shared[np.ix_(known, known)].astype(np.float64))[1]
        least = np.inf
        for mean, covariance in zip(arrays.density_mean, arrays.density_covariance, strict=True):
            part = covariance[np.ix_(known, known)].astype(np.float64)
            off = x - mean[known]
            least = min(least, off @ np.linalg.inv(part) @ off + np.linalg.slogdet(part)[1] - shared)
        surprise.append((least - known.sum()) / np.sqrt(2 * known.sum()))
    return np.array(surprise)


@pytest.fixture
def arrays():
    return draw_readout_arrays(N_LABELS, N_COMPONENTS, N_PROTEINS, n_batches=2, seed=0)


def test_proteins_that_were_not_measured_are_integrated_out(arrays) -> None:
    rng = np.random.default_rng(1)
    components, protein = rng.standard_normal((40, N_COMPONENTS)), rng.standard_normal((40, N_PROTEINS))
    measured = rng.random((40, N_PROTEINS)) < rng.random((40, 1))
    measured[0], measured[1] = False, True
    found = LabelDensities(arrays).surprise(components.astype(np.float32), protein.astype(np.float32), measured)
    expected = brute_force(arrays, components.astype(np.float32), protein.astype(np.float32), measured)
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_proteins", [20, 24, 60])
def test_many_features_are_taken_part_by_part(n_proteins: int) -> None:
    rng = np.random.default_rng(4)
    arrays = draw_readout_arrays(N_LABELS, 40, n_proteins, n_batches=2, seed=5)
    near = arrays.density_mean[rng.integers(N_LABELS, size=30)] + rng.standard_normal((30, 40 + n_proteins))
    components, protein = near[:, :40].astype(np.float32), near[:, 40:].astype(np.float32)
    measured = np.ones((30, n_proteins), dtype=bool)
    expected = brute_force(arrays, components, protein, measured)
    # Whichever label is asked first.
    for guess in (None, rng.integers(N_LABELS, size=30), np.full(30, N_LABELS - 1)):
        found = LabelDensities(arrays).surprise(components, protein, measured, guess)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_what_was_not_measured_does_not_matter(arrays) -> None:
    rng = np.random.default_rng(2)
    components = rng.standard_normal((10, N_COMPONENTS)).astype(np.float32)
    protein = rng.standard_normal((10, N_PROTEINS)).astype(np.float32)
    measured = np.tile(np.arange(N_PROTEINS) < 2, (10, 1))
    other = np.where(measured, protein, 99).astype(np.float32)
    densities = LabelDensities(arrays)
    assert np.array_equal(
        densities.surprise(components, protein, measured), densities.surprise(components, other, measured)
    )


def test_a_cell_is_judged_without_its_neighbours(arrays) -> None:
    rng = np.random.default_rng(3)
    components = rng.standard_normal((30, N_COMPONENTS)).astype(np.float32)
    protein = rng.standard_normal((30, N_PROTEINS)).astype(np.float32)
    measured = rng.random((30, N_PROTEINS)) < 0.5
    together = LabelDensities(arrays).surprise(components, protein, measured)
    for cell in range(30):
        one = slice(cell, cell + 1)
        alone = LabelDensities(arrays).surprise(components[one], protein[one], measured[one])
        assert alone[0] == together[cell]


def test_a_guess_makes_no_difference_to_a_bit() -> None:
    rng = np.random.default_rng(6)
    arrays = draw_readout_arrays(12, 30, 20, n_batches=2, seed=7)
    near = arrays.density_mean[rng.integers(12, size=200)] + rng.standard_normal((200, 50))
    components, protein = near[:, :30].astype(np.float32), near[:, 30:].astype(np.float32)
    measured = np.ones((200, 20), dtype=bool)
    densities = LabelDensities(arrays)
    expected = densities.surprise(components, protein, measured)
    for guess in (rng.integers(12, size=200), np.full(200, 11)):
        np.testing.assert_array_equal(densities.surprise(components, protein, measured, guess), expected)


def test_a_cell_that_lies_beyond_single_precision_is_measured(arrays) -> None:
    components = np.full((1, N_COMPONENTS), 1e25, dtype=np.float32)
    nothing = np.zeros((1, N_PROTEINS), dtype=np.float32)
    found = LabelDensities(arrays).surprise(components, nothing, nothing.astype(bool))
    np.testing.assert_allclose(found, brute_force(arrays, components, nothing, nothing.astype(bool)), rtol=1e-5)


def test_far_from_every_label_is_surprising(arrays) -> None:
    near = arrays.density_mean[:, :N_COMPONENTS]
    protein = arrays.density_mean[:, N_COMPONENTS:]
    measured = np.ones((N_LABELS, N_PROTEINS), dtype=bool)
    densities = LabelDensities(arrays)
    assert (densities.surprise(near + 30, protein, measured) > densities.surprise(near, protein, measured) + 10).all()
