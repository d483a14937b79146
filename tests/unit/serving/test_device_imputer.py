"""What a device makes of decoded proteins is what cores make of them: here on the CPU, by the same graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.support.readout import draw_readout_arrays
from tests.support.toy_bundle import toy_cells

from totalanvi.export.imputation_graphs import (
    add_weighted_graph,
    bounds_graph,
    readout_counts_graph,
    readout_imputed_graph,
)
from totalanvi.export.reference_cells import aligned
from totalanvi.export.source import read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.engine.bounds import Bounds
from totalanvi.serving.engine.curves import Curves
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.readout import Readings, Readout
from totalanvi.serving.engine.scores import Imputed
from totalanvi.serving.intervals import COVERAGES, Intervals
from totalanvi.serving.mapped import MapOptions

N_CELLS, N_PROTEINS, N_KNOTS = 40, 7, 5


def computed(graph: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {name: array.astype(np.float32) for name, array in feed.items()})
    return found


def draw_bounds(seed: int, *, equal_knots: bool = False) -> Bounds:
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.uniform(0, 6, (N_PROTEINS, N_KNOTS)), axis=1)
    if equal_knots:
        knots[:, 2] = knots[:, 1]
    knots[0] = np.nan  # never measured
    away = np.cumsum(rng.uniform(0, 1, (2, N_PROTEINS, N_KNOTS, len(COVERAGES))), axis=-1)
    at_knots = knots[..., None] + np.array([-1, 1])[:, None, None, None] * away
    return Bounds(Intervals(knots, *at_knots), 0.9)


@settings(deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_intervals_are_those_of_the_cores(seed: int, equal_knots: bool) -> None:
    bounds = draw_bounds(seed, equal_knots=equal_knots)
    expected = np.random.default_rng(seed).gamma(0.4, 60, (N_CELLS, N_PROTEINS)).astype(np.float32)
    expected[0] = 0
    first, lines = bounds.curves.line_table()
    low, high = computed(bounds_graph(), expected=expected, first_bound=first, bounds=lines)
    for found, exact in zip((low, high), bounds.read(expected), strict=True):
        np.testing.assert_allclose(found, exact, rtol=2e-5, atol=1e-5)
        assert np.isnan(found[:, 0]).all()


def test_a_bound_beyond_all_numbers_is_the_largest_one() -> None:
    bounds = draw_bounds(0)
    first, lines = bounds.curves.line_table()
    expected = np.full((1, N_PROTEINS), np.finfo(np.float32).max)
    high = computed(bounds_graph(), expected=expected, first_bound=first, bounds=lines)[1]
    assert (high[:, 1:] == np.finfo(np.float32).max).all()


@settings(deadline=None)
@given(arrays(np.float32, (3, 4), elements=st.floats(0, 1000, width=32)), st.lists(st.integers(0, 3), min_size=4))
def test_what_has_no_weight_need_not_be_finite(decoded: np.ndarray, quarters: list[int]) -> None:
    weight = np.array(quarters[:4], dtype=np.float32)[None] / 4
    total = np.ones_like(decoded)
    unlearned = np.where(weight > 0, decoded, np.nan)
    found = computed(add_weighted_graph(), total=total, decoded=unlearned, weight=weight)[0]
    np.testing.assert_allclose(found, total + decoded * weight, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_a_readout_are_those_of_the_cores(seed: int) -> None:
    rng, weights = np.random.default_rng(seed), np.array([[0.25], [0.75]]) * np.ones(N_PROTEINS)
    of_readout = draw_readout_arrays(3, 4, N_PROTEINS, n_batches=2, seed=seed)
    standardised = rng.normal(size=(N_CELLS, N_PROTEINS)).astype(np.float32)
    measured = rng.random((N_CELLS, N_PROTEINS)) < 0.3
    denoised, expected, foreground = rng.gamma(1, 20, (3, N_CELLS, N_PROTEINS)).astype(np.float32)
    nothing = np.zeros((N_CELLS, 1), dtype=np.float32)
    readings = Readings(nothing, standardised, nothing, nothing)
    exact = Readout(of_readout).impute(Imputed(denoised, expected, foreground), readings, measured, weights)

    total = np.zeros_like(standardised)
    for centre, spread, weight in zip(of_readout.batch_centre, of_readout.batch_spread, weights, strict=True):
        scales = {"centre": centre[None], "spread": spread[None], "smear": of_readout.protein_smear[None]}
        decoded = computed(readout_counts_graph(), standardised=standardised, **scales)[0]
        total = computed(add_weighted_graph(), total=total, decoded=decoded, weight=weight[None])[0]
    bounds = draw_bounds(seed)
    first_share, shares = Curves(of_readout.share_knots, of_readout.share).line_table()
    first_bound, lines = bounds.curves.line_table()
    found = computed(
        readout_imputed_graph(),
        of_readout=total,
        measured=measured,
        decoded_denoised=denoised,
        decoded_expected=expected,
        first_share=first_share,
        shares=shares,
        first_bound=first_bound,
        bounds=lines,
    )
    for array, each in zip(found, (exact.denoised, exact.expected, *bounds.read(exact.expected)), strict=True):
        np.testing.assert_allclose(array, each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["average", "samples", "as one batch"])
@pytest.mark.parametrize("has_readout", [False, True])
def test_imputed_proteins_are_those_of_the_cores(
    toy_folder: Path, bundle: Path, checkpoint: Path, has_readout: bool, how: str
) -> None:
    opened = Bundle.open(bundle if has_readout else toy_folder)
    assert (opened.readout is not None) == has_readout
    cells = aligned(read_source(checkpoint).sample.held_out) if has_readout else toy_cells(70)[0]
    # A part of them without proteins, and one with a part of these.
    measured = cells.measured.copy()
    measured[::2] = False
    measured[::3, 1] = False
    cells = replace(cells, measured=measured, protein=cells.protein * measured)
    options = {
        "average": MapOptions(samples=1),
        "samples": MapOptions(samples=70, background="include"),
        "as one batch": MapOptions(samples=1, impute_as=opened.manifest.batches[-1]),
    }[how]
    as_on_a_device = Engine(opened, "cpu", complete_graphs=True)
    imputation = as_on_a_device._computation._imputation
    assert imputation is not None
    assert imputation.serves
    found, expected = (engine.run(cells, options).arrays() for engine in (as_on_a_device, Engine(opened, "cpu")))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-3, err_msg=name)
