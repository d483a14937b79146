"""Labels that are predicted, hard and soft."""

from __future__ import annotations

import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch

from totalanvi.training import TOTALANVI, ArgumentError, simulate

LABELS = ["alpha 1", "alpha 2", "beta 1", "beta 2"]


def test_hard_predictions_are_the_likeliest_of_the_soft_ones(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    soft, hard = trained.predict(soft=True), trained.predict()
    assert isinstance(soft, pd.DataFrame)
    assert soft.columns.tolist() == list(trained.registry.labels) == LABELS
    assert soft.index.equals(reference_mdata["rna"].obs_names)
    assert np.allclose(soft.sum(axis=1), 1.0, atol=1e-5)
    assert isinstance(hard, np.ndarray)
    assert np.array_equal(hard, np.array(LABELS)[soft.to_numpy().argmax(axis=1)])
    assert len(set(hard)) == 4


def test_draws_from_the_posterior(trained: TOTALANVI) -> None:
    torch.manual_seed(0)
    mean = trained.predict(soft=True)
    draws = [trained.predict(soft=True, use_posterior_mean=False) for _ in range(2)]
    assert not np.allclose(draws[0], draws[1], atol=1e-3)
    for draw in draws:
        assert np.allclose(draw.sum(axis=1), 1.0, atol=1e-5)
        assert not np.allclose(draw, mean, atol=1e-3)
    torch.manual_seed(0)
    assert np.array_equal(trained.predict(soft=True), mean)
    assert np.array_equal(trained.predict(soft=True, use_posterior_mean=False), draws[0])


def test_a_query_needs_no_labels(trained: TOTALANVI) -> None:
    query = simulate(n_cells=20, n_genes=160, n_proteins=12, n_labels=4, seed=1)
    expected = trained.predict(query, soft=True)
    for part in (query, query["rna"], query["prot"]):
        del part.obs["cell_type"]
    assert np.array_equal(trained.predict(query, soft=True), expected)


@pytest.mark.parametrize("interpret", [False, True])
def test_no_cell_is_refused(trained: TOTALANVI, interpret: bool) -> None:
    with pytest.raises(ArgumentError, match="Expected cells, found none; look at what chose them"):
        trained.predict(indices=[], ig_interpretability=interpret)
