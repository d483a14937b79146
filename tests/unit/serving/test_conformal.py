"""Label sets: scores that never tie, thresholds of the right rank, and the coverage that was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import logsumexp

from totalanvi.serving.engine.conformal import label_scores, score_threshold


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(2, 7)), elements=st.floats(-15, 15)))
@example(np.array([[13.0, -14.0]]))
def test_scores_are_log_odds_against_a_label(logits: np.ndarray) -> None:
    for label, score in enumerate(label_scores(logits).T):
        others = logsumexp(np.delete(logits, label, axis=1), axis=1)
        np.testing.assert_allclose(score, others - logits[:, label], rtol=1e-9, atol=1e-9)


def test_scores_go_on_where_probabilities_are_one() -> None:
    scores = label_scores(np.array([[900.0, 0.0, 0.0], [901.0, 0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(scores[:, 0], [math.log(2) - 900, math.log(2) - 901])
    np.testing.assert_allclose(scores[:, 1], [900, 901])


@pytest.mark.parametrize(
    ("n_cells", "coverage", "rank"), [(9, 0.9, 9), (8, 0.9, None), (99, 0.9, 90), (100, 0.9, 91), (0, 0.5, None)]
)
def test_a_threshold_is_one_of_the_scores(n_cells: int, coverage: float, rank: int | None) -> None:
    scores = np.arange(1, n_cells + 1, dtype=np.float32)
    assert score_threshold(scores, coverage) == (math.inf if rank is None else rank)


@pytest.mark.parametrize("coverage", [0.6, 0.9, 0.97])
@pytest.mark.parametrize("sharpness", [0.5, 4, 300])
def test_sets_hold_the_label_as_often_as_asked(coverage: float, sharpness: float) -> None:
    """Whether a model doubts too much or, with probabilities that are 0 and 1, not at all."""
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=40_000)
    logits = sharpness * (2 * np.eye(5)[truth] + rng.normal(size=(40_000, 5)))
    scores = label_scores(logits)
    own = scores[np.arange(40_000), truth]
    threshold = score_threshold(np.sort(own[:20_000]), coverage)
    assert (own[20_000:] <= threshold).mean() == pytest.approx(coverage, abs=0.015)
    if coverage == 0.6 and sharpness == 300:
        # Most labels are right: a set that holds the label less often than the best guess is right is empty at times.
        assert ((scores[20_000:] <= threshold).sum(axis=1) == 0).any()
