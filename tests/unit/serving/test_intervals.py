"""Intervals between knots: continuous, rising, never below zero, and as wide as was fitted."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from totalanvi.serving.engine.bounds import Bounds
from totalanvi.serving.engine.curves import read_curves
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
    low, high = Bounds(intervals(seed), coverage).read(expected)
    assert (low >= 0).all()
    assert (low <= high).all()
    for bound in (low, high):
        assert (np.diff(bound, axis=0) >= -1e-6 * bound[1:]).all()


def test_a_rounding_error_stays_one() -> None:
    fitted = intervals(3)
    expected = np.expm1(fitted.knots.T)
    bounds = Bounds(fitted, 0.9)
    np.testing.assert_allclose(bounds.read(expected * (1 + 1e-6)), bounds.read(expected), rtol=1e-4, atol=1e-4)


def test_between_knots_and_beyond_them() -> None:
    knots = np.log1p([[9.0, 99.0]])
    half = np.log(2) * np.array([[1], [2]]) * np.ones(len(COVERAGES))
    fitted = Intervals(knots, knots[..., None] - half, knots[..., None] + half)
    expected = np.array([[9.0], [99.0], [4.0], [199.0], [np.sqrt(1000) - 1]])
    low, high = Bounds(fitted, 0.9).read(expected)
    np.testing.assert_allclose(low[:, 0] + 1, [5, 25, 2.5, 50, np.sqrt(125)], rtol=1e-5)
    np.testing.assert_allclose(high[:, 0] + 1, [20, 400, 10, 800, np.sqrt(8000)], rtol=1e-5)


def test_coverages_in_between_are_interpolated() -> None:
    width = np.array(COVERAGES)[None, None]
    fitted = Intervals(np.ones((1, 1)), 1 - width, 1 + width)
    for coverage in (*COVERAGES, 0.733):
        low, high = Bounds(fitted, coverage).read(np.full((1, 1), np.e - 1))
        np.testing.assert_allclose(np.log1p([low[0, 0], high[0, 0]]), [1 - coverage, 1 + coverage], rtol=1e-5)


def test_what_is_not_known_is_nan_and_what_is_huge_is_finite() -> None:
    fitted = intervals(1)
    fitted.knots[1] = np.nan
    fitted.low[1] = np.nan
    fitted.high[1] = np.nan
    low, high = Bounds(fitted, 0.9).read(np.full((2, 3), 3e38)).astype(np.float32)
    assert np.isnan(low[:, 1]).all()
    assert np.isnan(high[:, 1]).all()
    assert np.isfinite(high[:, [0, 2]]).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n_knots=st.integers(1, 20), n_proteins=st.integers(1, 40))
def test_curves_are_read_as_numpy_reads_them(seed: int, n_knots: int, n_proteins: int) -> None:
    rng = np.random.default_rng(seed)
    # Halves, so that knots are equal and places lie upon them.
    knots = np.sort(np.round(rng.uniform(0, 5, size=(n_proteins, n_knots)) * 2) / 2, axis=1).astype(np.float32)
    values = rng.normal(size=knots.shape).astype(np.float32)
    places = np.where(rng.random((30, n_proteins)) < 0.5, rng.uniform(-1, 6, (30, n_proteins)), rng.integers(0, 6))

    level, rising = (read_curves(places, knots, values, rising=rising) for rising in (False, True))

    for j in range(n_proteins):
        expected = np.interp(places[:, j], knots[j], values[j])
        np.testing.assert_array_equal(level[:, j], expected)
        beyond = places[:, j] - np.clip(places[:, j], knots[j, 0], knots[j, -1])
        np.testing.assert_array_equal(rising[:, j], expected + beyond)
