"""Genes that a query lacks are filled in as the reference's cells vary together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.readout import draw_readout_arrays

from totalanvi.serving.bundles.first_layer import ReadoutFirst
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.serving.engine.missing_genes import MissingGenes

N_GENES, N_COMPONENTS, N_PROTEINS, N_LABELS = 200, 4, 3, 2
NOISE = 0.05


@pytest.fixture
def variance() -> np.ndarray:
    return np.array([2.0, 1.0, 0.7, 0.3])


@pytest.fixture
def arrays(variance: np.ndarray) -> ReadoutArrays:
    drawn = draw_readout_arrays(N_LABELS, N_COMPONENTS, N_PROTEINS, n_batches=1, seed=0)
    return replace(drawn, component_variance=variance.astype(np.float32), gene_noise=np.array([NOISE], np.float32))


@pytest.fixture
def projection(arrays: ReadoutArrays) -> ReadoutFirst:
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((N_GENES, N_COMPONENTS)))[0] / 3
    others = rng.standard_normal((N_GENES, arrays.n_columns - N_COMPONENTS)) / 10
    weight = np.hstack([axes, others]).astype(np.float32)
    return ReadoutFirst(weight, np.zeros(N_GENES, np.float32), np.zeros(weight.shape[1], np.float32))


def draw(projection: ReadoutFirst, variance: np.ndarray, n_cells: int = 300) -> np.ndarray:
    """Centred cells of the model that the fill assumes, (cells, genes)."""
    rng = np.random.default_rng(2)
    loadings = projection.weight[:, :N_COMPONENTS].astype(float) * 9
    components = rng.standard_normal((n_cells, N_COMPONENTS)) * np.sqrt(variance)
    return components @ loadings.T + np.sqrt(NOISE) * rng.standard_normal((n_cells, N_GENES))


def test_the_fill_is_the_mean_of_absent_genes_given_the_others(arrays, projection, variance) -> None:
    present = np.arange(N_GENES) % 3 != 0
    cells = draw(projection, variance)
    loadings = projection.weight[:, :N_COMPONENTS].astype(float) * 9
    covariance = loadings @ np.diag(variance) @ loadings.T + NOISE * np.eye(N_GENES)
    absent = cells[:, present] @ np.linalg.solve(
        covariance[np.ix_(present, present)], covariance[np.ix_(present, ~present)]
    )
    expected = cells[:, present] @ projection.weight[present] + absent @ projection.weight[~present]
    projected = cells[:, present] @ projection.weight[present]
    found = projected + projected[:, :N_COMPONENTS] @ MissingGenes(projection, arrays).fill(present)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_components_come_nearer_to_those_of_all_genes(arrays, projection, variance) -> None:
    present = np.arange(N_GENES) % 2 == 0
    cells = draw(projection, variance)
    whole = cells @ projection.weight[:, :N_COMPONENTS]
    average = cells[:, present] @ projection.weight[present][:, :N_COMPONENTS]
    filled = average + average @ MissingGenes(projection, arrays).fill(present)[:, :N_COMPONENTS]
    assert np.square(filled - whole).mean() < np.square(average - whole).mean() / 4


def test_nothing_is_filled_in_where_nothing_is_missing(arrays, projection) -> None:
    missing = MissingGenes(projection, arrays)
    for present in (None, np.ones(N_GENES, dtype=bool)):
        fill = missing.fill(present)
        assert fill.shape == (N_COMPONENTS, arrays.n_columns)
        assert not fill.any()


def test_without_any_gene_there_is_nothing_to_fill_in_from(arrays, projection) -> None:
    fill = MissingGenes(projection, arrays).fill(np.zeros(N_GENES, dtype=bool))
    assert np.isfinite(fill).all()
