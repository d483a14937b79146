"""The parts of differential expression, each against numbers worked out otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells

from totalanvi.training.errors import ArgumentError
from totalanvi.training.results.differential.batches import BatchPolicy
from totalanvi.training.results.differential.hypotheses import (
    ChangeTest,
    bayes_factor,
    discoveries,
    log_fold_change,
    vanilla_test,
)
from totalanvi.training.results.differential.sampling import Sampling, pair_up
from totalanvi.training.results.differential.statistics import RawCounts, as_columns
from totalanvi.training.results.differential.thresholds import learned_delta, learned_pseudocount
from totalanvi.training.results.expression import ExpressionOptions

PAIRS = np.array([[4.0, 1.0, 2.0], [4.0, 1.0, 0.5], [4.0, 1.0, 2.0], [4.0, 1.0, 2.0]]), np.ones((4, 3))


def test_changes_are_decided_by_the_threshold() -> None:
    probability, delta = ChangeTest(delta=0.5).decide(*PAIRS, 0.0)
    assert delta == 0.5
    assert probability.tolist() == [1.0, 0.0, 0.75]
    probability, _ = ChangeTest(delta=0.5, test_mode="two").decide(*PAIRS, 0.0)
    assert probability.tolist() == [1.0, 0.0, 1.0]
    probability, _ = ChangeTest(delta=1.0).decide(*PAIRS, 1e6)
    assert probability.tolist() == [0.0, 0.0, 0.0]


def test_changes_are_described() -> None:
    columns = ChangeTest().describe(*PAIRS, 0.0)
    assert columns["lfc_mean"].tolist() == [2.0, 0.0, 0.5]
    assert columns["lfc_median"].tolist() == [2.0, 0.0, 1.0]
    assert columns["lfc_std"] == pytest.approx([0.0, 0.0, np.sqrt(0.75)])
    assert columns["lfc_min"].tolist() == [2.0, 0.0, -1.0]
    assert columns["lfc_max"].tolist() == [2.0, 0.0, 1.0]


def test_a_change_from_nothing_to_nothing_is_none() -> None:
    nothing = np.zeros((2, 2), np.float32)
    assert (log_fold_change(nothing, nothing, 0.0) == 0).all()


def test_credible_intervals_are_the_shortest() -> None:
    draws = np.exp2(np.random.default_rng(0).exponential(size=(4001, 2)))
    columns = ChangeTest(cred_interval_lvls=[0.5, 0.9]).describe(draws, np.ones_like(draws), 0.0)
    # The density of an exponential falls: the shortest interval begins at 0.
    for level in (0.5, 0.9):
        assert columns[f"lfc_confidence_interval_{level}_min"] == pytest.approx(0.0, abs=0.02)
        assert columns[f"lfc_confidence_interval_{level}_max"] == pytest.approx(-np.log(1 - level), rel=0.1)


def test_the_higher_group_is_the_likelier_one() -> None:
    assert vanilla_test(*PAIRS).tolist() == [1.0, 0.0, 0.75]
    assert bayes_factor(np.array([0.75])) == pytest.approx(np.log(3))
    assert np.isfinite(bayes_factor(np.array([0.0, 1.0]))).all()


def test_discoveries_have_the_expected_share_of_false_ones() -> None:
    probability = np.array([0.5, 0.99, 0.9, 0.95])
    # Expected shares, the likeliest first: 0.01, 0.03, 0.0533, 0.165.
    assert discoveries(probability, 0.031).tolist() == [False, True, False, True]
    assert discoveries(probability, 0.06).tolist() == [False, True, True, True]
    assert discoveries(probability, 0.001).tolist() == [False] * 4


def test_calibrated_probabilities_control_the_false_discoveries() -> None:
    rng = np.random.default_rng(0)
    probability = rng.beta(0.3, 0.5, 20_000)
    true = rng.random(20_000) < probability
    found = discoveries(probability, 0.1)
    assert np.mean(~true[found]) == pytest.approx(0.1, abs=0.02)
    assert found.sum() > 2_000


def test_the_learned_delta_is_between_the_clusters() -> None:
    rng = np.random.default_rng(0)
    changes = np.concatenate([rng.normal(0, 0.05, 400), rng.normal(2, 0.1, 50), rng.normal(-2, 0.1, 50)])
    assert learned_delta(changes) == pytest.approx(0.6 * 2, rel=0.05)
    assert learned_delta(changes) == learned_delta(changes)


def test_the_learned_delta_of_few_or_equal_changes() -> None:
    assert learned_delta(np.array([-1.0, 0.3, 3.0])) == pytest.approx(0.6 * 2)
    assert learned_delta(np.array([5.0])) == pytest.approx(3.0)
    assert learned_delta(np.zeros(50)) == 0.1


def test_the_learned_pseudocount_is_what_unexpressed_genes_have() -> None:
    draws = np.array([[1.0, 2.0, 30.0], [3.0, 1.0, 10.0]]), np.array([[5.0, 2.0, 30.0], [4.0, 1.0, 10.0]])
    first, second = np.array([True, True, False]), np.array([False, True, False])
    assert learned_pseudocount(draws, (first, second)) == pytest.approx(np.quantile([3.0, 2.0], 0.9))
    assert learned_pseudocount(draws, (~first & second, ~first & second)) == 1e-10


def sampling(policy: BatchPolicy, n_draws: int, n_pairs: int | None = None) -> Sampling:
    return Sampling(ExpressionOptions(np.arange(2), np.arange(2)), policy, n_draws, n_pairs, batch_size=8)


def test_draws_of_the_same_batches_meet_within_them() -> None:
    policy = BatchPolicy((0, 1, 2), (0, 1, 2))
    assert pair_up(sampling(policy, 10)) is None
    pairs = pair_up(sampling(policy, 10, n_pairs=301))
    assert pairs is not None
    # Ten draws of three batches: 4, 3 and 3.
    batch = np.repeat([0, 1, 2], [4, 3, 3])
    assert len(pairs.first) == 301
    assert (batch[pairs.first] == batch[pairs.second]).all()
    assert np.bincount(batch[pairs.first]).tolist() == [101, 100, 100]
    assert set(pairs.first) == set(pairs.second) == set(range(10))


def test_draws_of_other_batches_meet_across_them() -> None:
    torch.manual_seed(0)
    policy = BatchPolicy((0,), (1, 2))
    pairs = pair_up(sampling(policy, 100))
    assert pairs is not None
    assert pairs.first.tolist() == list(range(100))
    assert sorted(pairs.second) == list(range(100))
    assert 10 < (pairs.second[:50] >= 50).sum() < 40
    assert pair_up(sampling(BatchPolicy(), 100)) is None


def test_a_batch_without_a_draw_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"n_samples_overall: expected at least one for each of the 3"):
        sampling(BatchPolicy((0, 1, 2), (0, 1, 2)), 2)
    with pytest.raises(ArgumentError, match="m_permutation"):
        sampling(BatchPolicy((0, 1, 2), (0, 1, 2)), 10, n_pairs=2)


def test_statistics_of_the_counts() -> None:
    cells = draw_cells(n_cells=40)
    group = np.arange(40) < 15
    rna = cells.rna.toarray()
    columns = as_columns(RawCounts(cells).genes(group), RawCounts(cells).genes(~group))
    total = np.maximum(rna.sum(axis=1, keepdims=True), 1)
    for number, rows in ((1, group), (2, ~group)):
        assert columns[f"raw_mean{number}"] == pytest.approx(rna[rows].mean(axis=0))
        assert columns[f"non_zeros_proportion{number}"] == pytest.approx((rna[rows] > 0).mean(axis=0))
        assert columns[f"raw_normalized_mean{number}"] == pytest.approx((1e4 * rna / total)[rows].mean(axis=0))


def test_cells_that_did_not_measure_a_protein_do_not_count_for_it() -> None:
    cells = draw_cells(n_cells=40)
    cells = replace(cells, measured=cells.measured & (np.arange(4) != 3), protein=cells.protein * (np.arange(4) != 3))
    group = np.arange(40) < 15
    statistics = RawCounts(cells).proteins(group)
    for protein in range(3):
        values = cells.protein[group & cells.measured[:, protein], protein]
        assert statistics.raw_mean[protein] == pytest.approx(values.mean())
        assert statistics.non_zeros_proportion[protein] == pytest.approx((values > 0).mean())
    assert np.isnan(statistics.raw_mean[3])
    assert np.isnan(statistics.raw_normalized_mean).all()
