"""Intervals fitted to held-out cells: new cells lie within as often as asked, level by level."""

from __future__ import annotations

import numpy as np
import pytest

from totalanvi.export.interval_fit import FEWEST_CELLS, fit_intervals
from totalanvi.serving.engine.bounds import Bounds

N_CELLS = 1500


def simulate(n_cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts that scatter more where little is expected, of a protein with mostly zeros and of one with none."""
    rng = np.random.default_rng(seed)
    expected = np.stack([rng.lognormal(0, 1, n_cells), rng.lognormal(5, 1.5, n_cells)], axis=1)
    counts = rng.poisson(rng.gamma(3, expected / 3)).astype(np.float32)
    return counts, expected


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.98])
def test_new_counts_lie_within_as_often_as_asked(coverage: float) -> None:
    counts, expected = simulate(N_CELLS, seed=0)
    fitted = fit_intervals(counts, np.ones(counts.shape, dtype=bool), expected)
    counts, expected = simulate(20_000, seed=1)
    low, high = Bounds(fitted, coverage).read(expected)
    within = (low <= counts) & (counts <= high)
    # Rare counts come in large steps.
    rare, frequent = within.mean(axis=0)
    assert rare == pytest.approx(coverage, abs=0.04)
    assert frequent == pytest.approx(coverage, abs=0.02)
    # Not only on average: among the cells of which least is expected as among those of which most is.
    for order in np.array_split(np.argsort(expected[:, 1]), 4):
        assert within[order, 1].mean() == pytest.approx(coverage, abs=0.05)


def test_counts_that_do_not_follow_what_is_expected_are_covered_too() -> None:
    """Of a protein that RNA tells little of: where more is expected, less may be measured."""

    def draw(n_cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        expected = rng.lognormal(4, 1, size=(n_cells, 1))
        counts = rng.poisson(np.where(rng.random((n_cells, 1)) < 0.4, 15, 900 / np.sqrt(expected)))
        return counts.astype(np.float32), expected

    counts, expected = draw(N_CELLS, seed=0)
    fitted = fit_intervals(counts, np.ones(counts.shape, dtype=bool), expected)
    counts, expected = draw(20_000, seed=1)
    for coverage in (0.5, 0.9):
        low, high = Bounds(fitted, coverage).read(expected)
        assert ((low <= counts) & (counts <= high)).mean() == pytest.approx(coverage, abs=0.02)


def test_few_cells_make_few_knots() -> None:
    counts, expected = simulate(N_CELLS, seed=0)
    for n_cells, n_knots in ((FEWEST_CELLS, 1), (99, 1), (100, 2), (350, 7), (N_CELLS, 10)):
        fitted = fit_intervals(counts[:n_cells], np.ones((n_cells, 2), dtype=bool), expected[:n_cells])
        assert len(np.unique(fitted.knots[1])) == n_knots
        assert (np.diff(fitted.knots, axis=1) >= 0).all()


def test_only_measured_counts_tell() -> None:
    counts, expected = simulate(200, seed=0)
    measured = np.ones(counts.shape, dtype=bool)
    measured[FEWEST_CELLS - 1 :, 0] = False
    measured[100:, 1] = False
    counts[100:, 1] = 1e6
    fitted = fit_intervals(counts, measured, expected)
    assert np.isnan(fitted.knots[0]).all()
    alone = fit_intervals(counts[:100], measured[:100], expected[:100])
    np.testing.assert_array_equal(fitted.high[1], alone.high[1])
