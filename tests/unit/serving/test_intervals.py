"""Intervals between knots: continuous, rising, never below zero, and as wide as the residuals say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from totalanvi.serving.intervals import LEVELS, Intervals


def intervals(seed: int, n_proteins: int = 3, n_knots: int = 4) -> Intervals:
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.uniform(0, 5, size=(n_proteins, n_knots)), axis=1)
    return Intervals(knots, np.sort(rng.normal(size=(n_proteins, n_knots, len(LEVELS))), axis=2))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), coverage=st.floats(0.5, 0.99))
def test_bounds_rise(seed: int, coverage: float) -> None:
    expected = np.repeat(np.expm1(np.linspace(0, 9, 400))[:, None], 3, axis=1)
    low, high = intervals(seed).bounds(expected, coverage)
    assert (low >= 0).all()
    assert (low <= high).all()
    for bound in (low, high):
        assert (np.diff(bound, axis=0) >= -1e-6 * bound[1:]).all()


def test_a_rounding_error_stays_one() -> None:
    fitted = intervals(3)
    expected = np.expm1(fitted.knots.T)
    for bound, near in zip(fitted.bounds(expected, 0.9), fitted.bounds(expected * (1 + 1e-6), 0.9), strict=True):
        np.testing.assert_allclose(near, bound, rtol=1e-4, atol=1e-4)


def test_between_knots_and_beyond_them() -> None:
    half = np.log(2) * np.sign(np.array(LEVELS) - 0.5)
    fitted = Intervals(np.log1p([[9.0, 99.0]]), np.stack([half, 2 * half])[None])
    expected = np.array([[9.0], [99.0], [4.0], [199.0], [np.sqrt(1000) - 1]])
    low, high = fitted.bounds(expected, 0.9)
    np.testing.assert_allclose(low[:, 0] + 1, [5, 25, 2.5, 50, np.sqrt(125)], rtol=1e-5)
    np.testing.assert_allclose(high[:, 0] + 1, [20, 400, 10, 800, np.sqrt(8000)], rtol=1e-5)


def test_where_nothing_lies_below_zero_all_that_is_left_out_lies_above() -> None:
    fitted = Intervals(np.full((1, 1), np.log(2)), (np.array(LEVELS) - 0.3)[None, None])
    for coverage in (0.5, 0.9):
        low, high = fitted.bounds(np.ones((1, 1)), coverage)
        lowest = np.log(2) + (1 - coverage) / 2 - 0.3
        assert lowest > 0
        np.testing.assert_allclose(np.log1p([low[0, 0], high[0, 0]]), [lowest, lowest + coverage], rtol=1e-5)
    zeros = Intervals(np.full((1, 1), np.log(2)), (2 * np.array(LEVELS) - 1.5)[None, None])
    low, high = zeros.bounds(np.ones((1, 1)), 0.9)
    assert low[0, 0] == 0
    np.testing.assert_allclose(np.log1p(high[0, 0]), np.log(2) + 2 * 0.9 - 1.5, rtol=1e-5)


def test_levels_in_between_are_interpolated() -> None:
    fitted = Intervals(np.zeros((1, 1)), np.array(LEVELS)[None, None])
    low, high = fitted.bounds(np.zeros((1, 1)), 0.733)
    np.testing.assert_allclose(np.log1p([low[0, 0], high[0, 0]]), [0.1335, 0.8665], rtol=1e-5)


def test_what_is_not_known_is_nan_and_what_is_huge_is_finite() -> None:
    fitted = intervals(1)
    fitted.knots[1] = np.nan
    fitted.residuals[1] = np.nan
    low, high = fitted.bounds(np.full((2, 3), 3e38), 0.9)
    assert np.isnan(low[:, 1]).all()
    assert np.isnan(high[:, 1]).all()
    assert np.isfinite(high[:, [0, 2]]).all()


def test_levels_come_in_pairs() -> None:
    assert list(LEVELS) == sorted(LEVELS)
    assert [round(1 - level, 9) for level in reversed(LEVELS)] == pytest.approx(list(LEVELS))
