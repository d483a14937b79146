"""Figures of label sets and novelty."""

from __future__ import annotations

import numpy as np
import pytest

from totalanvi.export.label_confidence import judge_confidence, own_label_scores
from totalanvi.export.served_labels import served_labels
from totalanvi.serving.engine.conformal import label_scores
from totalanvi.serving.mapped import MapOptions


def test_figures_are_cross_fitted() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(-1, 3, size=4000)
    logits = np.eye(3)[label] * (label >= 0)[:, None] + rng.normal(scale=0.7, size=(4000, 3))
    novelty = rng.random(4000)
    figures = judge_confidence(
        logits, label, np.arange(4000), novelty, MapOptions(coverage=0.8, false_positive_rate=0.05)
    )
    assert figures.n_labelled == (label >= 0).sum()
    assert figures.set_coverage == pytest.approx(0.8, abs=0.02)
    assert figures.set_size is not None
    assert 1 < figures.set_size < 3
    assert figures.n_cells == 4000
    assert (novelty > figures.novelty_threshold).mean() == pytest.approx(0.05, abs=0.005)


def test_cells_that_are_seen_several_times_do_not_vouch_for_themselves() -> None:
    """Cells of which each is unlike all others, ten times: only its own copies would make its set hold its label."""
    rng = np.random.default_rng(0)
    cells = np.repeat(np.arange(60), 10)
    logits = np.stack([np.zeros(600), np.repeat(rng.permutation(60) + (np.arange(60) % 2) * 1000, 10)], axis=1)
    figures = judge_confidence(logits, np.zeros(600, dtype=int), cells, np.ones(600), MapOptions())
    # The odd cells are all further off than the even ones: no set of theirs holds, all of the others' do.
    assert (figures.n_labelled, figures.set_coverage) == (60, 0.5)


def test_few_labelled_cells_give_no_figures() -> None:
    label = np.array([0, 1] * 9 + [-1] * 100)
    figures = judge_confidence(np.zeros((118, 2)), label, np.arange(118), np.ones(3), MapOptions())
    assert (figures.n_labelled, figures.n_cells) == (18, 3)
    assert figures.set_coverage is figures.set_size is figures.empty_sets is None


def test_scores_are_those_of_known_labels_in_order() -> None:
    logits = np.array([[1.0, 2.0], [0.0, 3.0], [5.0, 5.0]])
    np.testing.assert_allclose(own_label_scores(logits, np.array([0, -1, 1])), [0, 1])
    np.testing.assert_allclose(label_scores(logits)[0, 0], 1)


@pytest.mark.parametrize(
    ("labels", "served"),
    [
        (["B", "T"], ["B", "T"]),
        (["unknown", "T"], ["unknown (reference)", "T"]),
        (["unknown", "unknown (reference)"], ["unknown (reference)'", "unknown (reference)"]),
    ],
)
def test_no_label_is_called_what_novel_cells_are(labels: list[str], served: list[str]) -> None:
    assert served_labels(labels) == served
