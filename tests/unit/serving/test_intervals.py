"""Intervals between knots: continuous, rising, never below zero, and as wide as was fitted."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from totalanvi.serving.intervals import COVERAGES, Intervals


def intervals(seed: int, n_proteins: int = 3, n_knots: int = 4) -> Intervals:
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.uniform(0, 5, size=(n_proteins, n_knots)), axis=1)
    shape = (n_proteins, n_knots, len(COVERAGES))
    low = np.cumsum(rng.uniform(0, 1, size=shape), axis=1) - 1
    return Intervals(knots, low, low + np.cumsum(rng.uniform(0, 0.5, size=shape), axis=1))


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
    knots = np.log1p([[9.0, 99.0]])
    half = np.log(2) * np.array([[1], [2]]) * np.ones(len(COVERAGES))
    fitted = Intervals(knots, knots[..., None] - half, knots[..., None] + half)
    expected = np.array([[9.0], [99.0], [4.0], [199.0], [np.sqrt(1000) - 1]])
    low, high = fitted.bounds(expected, 0.9)
    np.testing.assert_allclose(low[:, 0] + 1, [5, 25, 2.5, 50, np.sqrt(125)], rtol=1e-5)
    np.testing.assert_allclose(high[:, 0] + 1, [20, 400, 10, 800, np.sqrt(8000)], rtol=1e-5)


def test_coverages_in_between_are_interpolated() -> None:
    width = np.array(COVERAGES)[None, None]
    fitted = Intervals(np.ones((1, 1)), 1 - width, 1 + width)
    for coverage in (*COVERAGES, 0.733):
        low, high = fitted.bounds(np.full((1, 1), np.e - 1), coverage)
        np.testing.assert_allclose(np.log1p([low[0, 0], high[0, 0]]), [1 - coverage, 1 + coverage], rtol=1e-5)


def test_what_is_not_known_is_nan_and_what_is_huge_is_finite() -> None:
    fitted = intervals(1)
    fitted.knots[1] = np.nan
    fitted.low[1] = np.nan
    fitted.high[1] = np.nan
    low, high = fitted.bounds(np.full((2, 3), 3e38), 0.9)
    assert np.isnan(low[:, 1]).all()
    assert np.isnan(high[:, 1]).all()
    assert np.isfinite(high[:, [0, 2]]).all()
