from __future__ import annotations

import numpy as np
import pytest
from benchmarks import metrics
from sklearn.metrics import f1_score, log_loss, roc_auc_score


def test_labels_are_scored_as_elsewhere() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])
    truth, probabilities = rng.choice(labels, 300), rng.dirichlet(np.ones(3), 300)
    figures = metrics.label_figures(truth, labels, probabilities)
    predicted = labels[probabilities.argmax(axis=1)]
    assert figures["accuracy"] == np.mean(truth == predicted)
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert figures["log_loss"] == pytest.approx(log_loss(truth, probabilities, labels=labels))


def test_a_label_that_cannot_be_given_costs_most() -> None:
    figures = metrics.label_figures(np.array(["other"]), np.array(["a", "b"]), np.array([[0.9, 0.1]]))
    assert figures["log_loss"] == pytest.approx(-np.log(1e-15))


def test_what_is_said_is_scored_rather_than_what_is_most_probable() -> None:
    truth, labels, probabilities = np.array(["b"]), np.array(["a", "b"]), np.array([[0.9, 0.1]])
    assert metrics.label_figures(truth, labels, probabilities)["accuracy"] == 0
    assert metrics.label_figures(truth, labels, probabilities, guess=np.array(["b"]))["accuracy"] == 1


def test_calibration_error_is_the_gap_of_each_bin() -> None:
    confidence, right = np.array([0.8, 0.8, 0.8, 0.8, 0.5, 0.5]), np.array([1, 1, 1, 0, 1, 0], dtype=bool)
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.05)


def test_novelty_ranks_as_elsewhere_with_ties() -> None:
    rng = np.random.default_rng(0)
    novel, novelty = rng.random(200) < 0.3, rng.integers(0, 5, 200).astype(float)
    assert metrics.auroc(novelty, novel) == pytest.approx(roc_auc_score(novel, novelty))


def test_sets_hold_the_truth_or_not() -> None:
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])
    figures = metrics.set_figures(np.array(["a", "b", "a", "a"]), np.array(["a", "b"]), sets)
    assert figures == {"coverage": 0.5, "size": 1.0}


def test_bounds_belong_to_an_interval() -> None:
    observed = np.array([[1.0, 5.0], [2.0, 0.0]])
    coverage = metrics.interval_coverage(observed, np.full((2, 2), 1.0), np.full((2, 2), 2.0))
    assert coverage.tolist() == [1.0, 0.0]


def test_constant_proteins_correlate_with_nothing() -> None:
    observed = np.array([[1.0, 3.0], [2.0, 3.0], [9.0, 3.0]])
    assert metrics.protein_correlations(observed, observed * 2, ranks=True).tolist() == pytest.approx([1.0, 0.0])
