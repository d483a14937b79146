"""From totalVI to TotalANVI: what depends on a label goes by its name; what goes by code has to have the same names."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from tests.support.reference_cells import FAST, draw_adata, set_up

from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError


@pytest.fixture(scope="module")
def totalvi() -> TOTALVI:
    """A model whose labels are B, T and unknown, with dispersions by label."""
    adata = draw_adata(40)
    adata.obs["other"] = ["B", "NK", "p", "unknown"] * 10
    set_up(adata, unlabeled_category=None)
    model = TOTALVI(adata, n_latent=2, n_hidden=8, gene_dispersion="gene-label", protein_dispersion="protein-label")
    model.train(max_epochs=1, **FAST)
    return model


def test_fewer_labels(totalvi: TOTALVI) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = TOTALANVI.from_totalvi_model(totalvi, "unknown", labels_key="kind")
    assert totalvi.registry.labels == ("B", "T", "unknown")
    assert model.registry.labels == ("B", "T")
    assert torch.equal(model.module.px_r, totalvi.module.px_r[:, :2])
    assert torch.equal(model.module.py_r, totalvi.module.py_r[:, :2])
    model.train(max_epochs=1, **FAST)
    assert np.isfinite(model.predict(soft=True)).all(axis=None)


def test_other_labels_as_many(totalvi: TOTALVI) -> None:
    expected = r"no dispersions of the labels NK: they begin as the average over its labels \(B, T, unknown\)"
    with pytest.warns(UserWarning, match=expected):
        model = TOTALANVI.from_totalvi_model(totalvi, "p", labels_key="other")
    assert model.registry.labels == ("B", "NK", "unknown")
    theirs = totalvi.module.px_r
    assert torch.equal(model.module.px_r[:, [0, 2]], theirs[:, [0, 2]])
    assert torch.allclose(model.module.px_r[:, 1], theirs.mean(dim=1))


def test_other_categories_of_a_covariate_are_refused() -> None:
    adata, other = draw_adata(40), draw_adata(40)
    adata.obs["lane"], other.obs["lane"] = ["a", "b"] * 20, ["b", "c"] * 20
    for each in (adata, other):
        set_up(each, categorical_covariate_keys=["lane"])
    model = TOTALVI(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, **FAST)
    with pytest.raises(ArgumentError, match="1 categorical covariates in their order, found 1 categorical covariates"):
        TOTALANVI.from_totalvi_model(model, "unknown", labels_key="kind", adata=other)
