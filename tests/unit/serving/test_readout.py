"""From what a readout's graph answers to logits, novelty and counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.readout import draw_readout_arrays

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import READOUT
from totalanvi.serving.engine.placement import Computed
from totalanvi.serving.engine.readout import Readings, Readout
from totalanvi.serving.engine.scores import Imputed

N_LABELS, N_COMPONENTS, N_PROTEINS, N_CELLS = 3, 4, 5, 6


@pytest.fixture
def arrays():
    return draw_readout_arrays(N_LABELS, N_COMPONENTS, N_PROTEINS, n_batches=2, seed=0)


@pytest.fixture
def readings() -> Readings:
    rng = np.random.default_rng(1)
    widths = (N_LABELS, N_PROTEINS, N_COMPONENTS, 1)
    return Readings(*(rng.standard_normal((N_CELLS, width)).astype(np.float32) for width in widths))


def test_each_measure_adds_to_novelty(arrays, readings) -> None:
    protein = np.random.default_rng(2).poisson(20, (N_CELLS, N_PROTEINS)).astype(np.float32)
    measured = np.ones((N_CELLS, N_PROTEINS), dtype=bool)
    readout, distance = Readout(arrays), np.linspace(0.5, 2, N_CELLS)
    usual = readout.strangeness(readings, protein, measured, distance)
    less = Readings(readings.log_probabilities, readings.standardised, readings.components, readings.evidence - 4)
    # Four are two spreads of this reference's evidence, and e² times the distance five spreads of its logarithm.
    poorer = readout.strangeness(less, protein, measured, distance)
    farther = readout.strangeness(readings, protein, measured, np.exp(2) * distance)
    assert np.allclose(readout.novelty(poorer) - readout.novelty(usual), 0.3 * 2, atol=1e-5)
    assert np.allclose(readout.novelty(farther) - readout.novelty(usual), 5, atol=1e-5)
    assert np.isfinite(readout.novelty(readout.strangeness(readings, protein, measured, 0 * distance))).all()


def test_counts_are_averages_of_the_batches(arrays, readings) -> None:
    decoded = Imputed(*(np.full((N_CELLS, N_PROTEINS), 7.0, np.float32) for _ in range(3)))
    weights = np.array([[0.25] * N_PROTEINS, [0.75] * N_PROTEINS])
    measured = np.zeros((N_CELLS, N_PROTEINS), dtype=bool)
    found = Readout(arrays).impute(decoded, readings, measured, weights)
    expected = sum(
        weight * np.maximum(np.exp(centre + spread * readings.standardised) * arrays.protein_smear - 1, 0)
        for weight, centre, spread in zip((0.25, 0.75), arrays.batch_centre, arrays.batch_spread, strict=True)
    )
    assert np.allclose(found.expected, expected, rtol=1e-5)
    assert np.array_equal(found.foreground, decoded.foreground)
    # Without background there is less of everything, in the same order.
    assert (found.denoised <= found.expected).all()
    for protein in range(N_PROTEINS):
        assert np.array_equal(found.denoised[:, protein].argsort(), found.expected[:, protein].argsort())


def test_what_a_batch_did_not_measure_need_not_be_finite(arrays, readings) -> None:
    decoded = Imputed(*(np.full((N_CELLS, N_PROTEINS), 7.0, np.float32) for _ in range(3)))
    weights = np.array([[1.0] * N_PROTEINS, [0.0] + [1.0] * (N_PROTEINS - 1)])
    weights /= weights.sum(axis=0)
    measured = np.zeros((N_CELLS, N_PROTEINS), dtype=bool)
    centre = arrays.batch_centre.copy()
    centre[1, 0] = 200  # the exponential of which is no number of single precision
    found = Readout(replace(arrays, batch_centre=centre)).impute(decoded, readings, measured, weights)
    usual = Readout(arrays).impute(decoded, readings, measured, weights)
    assert np.array_equal(found.expected, usual.expected)
    assert np.isfinite(found.denoised).all()


def test_what_was_measured_stays_with_the_decoder(arrays, readings) -> None:
    decoded = Imputed(*(np.full((N_CELLS, N_PROTEINS), value, np.float32) for value in (3.0, 7.0, 0.5)))
    measured = np.random.default_rng(3).random((N_CELLS, N_PROTEINS)) < 0.5
    found = Readout(arrays).impute(decoded, readings, measured, np.full((2, N_PROTEINS), 0.5))
    assert (found.expected[measured] == 7).all()
    assert (found.denoised[measured] == 3).all()
    assert (found.expected[~measured] != 7).all()


@pytest.mark.parametrize("proteins", [True, False])
def test_what_lies_behind_a_padded_block_is_left_out(proteins: bool) -> None:
    names = [name for name in READOUT.outputs if proteins or name != "standardised"]
    row = np.arange(8, dtype=np.float32)[:, None]
    readings = Readings.of({name: row + 10 * number for number, name in enumerate(names)})
    imputed = Imputed(row, row, row) if proteins else None
    cells = Computed(slice(100, 105), row, readings.log_probabilities, readings, imputed).trimmed()
    assert cells.rows == slice(100, 105)
    assert list(cells.results()) == ["latent", "logits", *names[1:]]
    for number, array in enumerate([cells.logits, *list(cells.results().values())[2:]]):
        assert array.ravel().tolist() == [10 * number + row for row in range(5)]
    assert cells.latent.ravel().tolist() == list(range(5))
    assert (cells.imputed is not None) == proteins
    if cells.imputed is not None:
        assert cells.imputed.foreground.ravel().tolist() == list(range(5))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("share", lambda a: a[:, ::-1], "rise"),
        ("protein_spread", lambda a: a * 0, "above 0"),
        ("density_shared", lambda a: -a, "positive definite"),
        ("novelty_scale", lambda a: -a, "above 0"),
        ("batch_centre", lambda a: a[:1], "shape"),
        ("protein_smear", lambda a: a * np.float32("nan"), "finite"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(bundle: Path, name: str, change: Any, said: str) -> None:
    opened = Bundle.open(bundle)
    assert opened.readout is not None
    assert opened.readout.problem(opened.manifest) is None
    broken = replace(opened.readout, **{name: np.ascontiguousarray(change(getattr(opened.readout, name)))})
    assert said in (broken.problem(opened.manifest) or "")
