"""Temperatures and calibration error, against made-up cells whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from totalanvi.export.calibration import calibrate, calibration_error, fit_temperature


def draw(n_cells: int, n_labels: int, sharpened: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that say too much by a factor, and labels drawn from what they should say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n_cells, n_labels))
    label = np.array([rng.choice(n_labels, p=p) for p in softmax(logits, axis=1)])
    return sharpened * logits, label


def log_loss(logits: np.ndarray, label: np.ndarray, temperature: float) -> float:
    return -float(log_softmax(logits / temperature, axis=1)[np.arange(len(label)), label].mean())


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_a_known_factor(sharpened: float) -> None:
    logits, label = draw(4000, 5, sharpened)
    temperature = fit_temperature(logits, label)
    assert temperature == pytest.approx(sharpened, rel=0.1)
    grid = [log_loss(logits, label, t) for t in np.geomspace(0.1, 10, 200)]
    assert log_loss(logits, label, temperature) <= min(grid) + 1e-4


def test_calibration_lowers_log_loss_and_calibration_error() -> None:
    logits, label = draw(1000, 4, sharpened=3)
    found = calibrate(logits, label)
    before = softmax(logits, axis=1)
    assert found.log_loss == pytest.approx(log_loss(logits, label, found.temperature))
    assert found.log_loss < log_loss(logits, label, 1) - 0.1
    assert found.expected_calibration_error < 0.5 * calibration_error(before, label)
    assert found.accuracy == (logits.argmax(axis=1) == label).mean()
    assert found.n_cells == 1000


def test_calibration_error_by_brute_force() -> None:
    logits, label = draw(500, 6, sharpened=2)
    probabilities = softmax(logits, axis=1)
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    expected = 0.0
    for i in range(15):
        inside = [n for n in range(500) if i / 15 < confidence[n] <= (i + 1) / 15]
        if inside:
            accuracy = np.mean([predicted[n] == label[n] for n in inside])
            expected += len(inside) / 500 * abs(accuracy - np.mean([confidence[n] for n in inside]))
    assert calibration_error(probabilities, label) == pytest.approx(expected)


def test_calibration_error_of_certainty() -> None:
    certain = np.eye(3)
    assert calibration_error(certain, np.array([0, 1, 2])) == 0
    assert calibration_error(certain, np.array([1, 2, 0])) == 1


def test_cells_that_are_all_right_do_not_ask_for_certainty() -> None:
    """Log-loss alone would fall for ever as the temperature does."""
    label = np.arange(200) % 4
    logits = 3.0 * np.eye(4)[label]
    temperature = fit_temperature(logits, label)
    confidence = softmax(logits / temperature, axis=1).max(axis=1)
    assert 0.99 < confidence[0] < 0.999


def test_cells_without_label_are_left_out() -> None:
    logits, label = draw(300, 4, sharpened=2)
    more = np.concatenate([logits, 100 * logits[:50]])
    assert calibrate(more, np.concatenate([label, np.full(50, -1)])) == calibrate(logits, label)


def test_few_cells_move_the_temperature_little() -> None:
    logits, label = draw(2000, 4, sharpened=5)
    many, some, one = (calibrate(logits[:n], label[:n]).temperature for n in (2000, 40, 1))
    assert 1 < one < some < many
    assert one < 1.5
    few = calibrate(logits[:20], label[:20])
    assert few.n_cells == 20
    assert few.log_loss == pytest.approx(log_loss(logits[:20], label[:20], few.temperature))


def test_no_cell_leaves_the_temperature_alone() -> None:
    logits, _ = draw(3, 4, sharpened=5)
    none = calibrate(logits, np.full(3, -1))
    assert (none.temperature, none.n_cells, none.accuracy, none.log_loss) == (1, 0, None, None)
