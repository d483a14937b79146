"""Count models against SciPy and against dense formulas written down independently."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import expit, logsumexp
from scipy.stats import nbinom
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, NegativeBinomial

from totalanvi.training.data import SparseRows
from totalanvi.training.network.distributions import (
    log_negative_binomial,
    log_negative_binomial_rows,
    log_protein_mixture,
    log_zero_inflated_rows,
)

N_CELLS, N_GENES = 7, 11


def scipy_nb(counts: np.ndarray, mean: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return nbinom.logpmf(counts, theta, theta / (theta + mean))


def torch_nb(log_mean: Tensor, log_theta: Tensor) -> NegativeBinomial:
    # torch counts successes before `total_count` failures, with odds mean / theta.
    return NegativeBinomial(log_theta.exp(), logits=log_mean - log_theta)


@pytest.fixture
def counts() -> np.ndarray:
    """Counts with an empty row, an empty column and a huge count."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (N_CELLS, N_GENES)) * (rng.random((N_CELLS, N_GENES)) < 0.4)
    counts[2] = 0
    counts[:, 5] = 0
    counts[4, 3] = 4_000
    return counts.astype(np.float64)


@pytest.fixture
def parameters() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    double = {"generator": generator, "dtype": torch.float64}
    return {
        "log_mean": torch.randn(N_CELLS, N_GENES, **double),
        "log_theta": torch.randn(N_GENES, **double),
        "dropout_logits": 2 * torch.randn(N_CELLS, N_GENES, **double),
    }


def rows_of(counts: np.ndarray) -> SparseRows:
    rows = SparseRows.from_scipy(sp.csr_matrix(counts))
    return rows.with_values(rows.values.double())


def rows_with_stored_zeros(counts: np.ndarray) -> SparseRows:
    """Every entry is stored, zeros too."""
    columns = np.tile(np.arange(counts.shape[1]), counts.shape[0])
    starts = np.arange(counts.shape[0] + 1) * counts.shape[1]
    rows = SparseRows.from_scipy(sp.csr_matrix((counts.ravel(), columns, starts), shape=counts.shape))
    assert len(rows.values) == counts.size
    return rows.with_values(rows.values.double())


def dense_zinb(counts: Tensor, log_mean: Tensor, log_theta: Tensor, dropout_logits: Tensor) -> Tensor:
    """The definition, in probabilities where they are not too small for it."""
    inflated, log_nb = dropout_logits.sigmoid(), torch_nb(log_mean, log_theta).log_prob(counts)
    log_zero = (inflated + (1 - inflated) * log_nb.exp()).log()
    return torch.where(counts == 0, log_zero, (1 - inflated).log() + log_nb)


def test_negative_binomial_is_that_of_scipy(counts: np.ndarray, parameters: dict[str, Tensor]) -> None:
    log_mean, log_theta = parameters["log_mean"], parameters["log_theta"]
    ours = log_negative_binomial(torch.from_numpy(counts), log_mean, log_theta)
    assert np.allclose(ours, scipy_nb(counts, log_mean.exp().numpy(), log_theta.exp().numpy()), rtol=1e-9)


@pytest.mark.parametrize("theta_per_cell", [False, True])
@pytest.mark.parametrize("rows", [rows_of, rows_with_stored_zeros])
def test_sparse_rows_give_the_dense_sum(
    counts: np.ndarray, parameters: dict[str, Tensor], rows: object, theta_per_cell: bool
) -> None:
    log_mean, log_theta = parameters["log_mean"], parameters["log_theta"]
    if theta_per_cell:
        log_theta = log_theta + 0.3 * parameters["dropout_logits"]
    expected = scipy_nb(counts, log_mean.exp().numpy(), log_theta.exp().numpy()).sum(axis=1)
    assert np.allclose(log_negative_binomial_rows(rows(counts), log_mean, log_theta), expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [rows_of, rows_with_stored_zeros])
def test_zero_inflation_is_a_mixture_with_zero(counts: np.ndarray, parameters: dict[str, Tensor], rows: object) -> None:
    log_mean, theta = parameters["log_mean"].numpy(), parameters["log_theta"].exp().numpy()
    inflated = expit(parameters["dropout_logits"].numpy())
    log_nb = scipy_nb(counts, np.exp(log_mean), theta)
    log_zero = np.where(counts == 0, np.log(inflated), -np.inf)
    expected = logsumexp(np.stack([log_zero, np.log1p(-inflated) + log_nb]), axis=0).sum(axis=1)
    assert np.allclose(log_zero_inflated_rows(rows(counts), **parameters), expected, rtol=1e-9)


def test_no_inflation_is_the_negative_binomial(counts: np.ndarray, parameters: dict[str, Tensor]) -> None:
    rows, never = rows_of(counts), torch.full((N_CELLS, N_GENES), -60.0, dtype=torch.float64)
    log_mean, log_theta = parameters["log_mean"], parameters["log_theta"]
    inflated = log_zero_inflated_rows(rows, log_mean, log_theta, never)
    assert torch.allclose(inflated, log_negative_binomial_rows(rows, log_mean, log_theta))


@pytest.mark.parametrize("rows", [rows_of, rows_with_stored_zeros])
@pytest.mark.parametrize("inflated", [False, True])
def test_gradients_are_those_of_the_dense_formula(
    counts: np.ndarray, parameters: dict[str, Tensor], rows: object, inflated: bool
) -> None:
    weight = torch.linspace(0.5, 2.0, N_CELLS, dtype=torch.float64)  # so that rows cannot be mixed up
    leaves = [value.clone().requires_grad_() for value in parameters.values()]
    dense_counts = torch.from_numpy(counts)
    if inflated:
        sparse, dense = log_zero_inflated_rows(rows(counts), *leaves), dense_zinb(dense_counts, *leaves).sum(dim=1)
    else:
        leaves = leaves[:2]
        sparse = log_negative_binomial_rows(rows(counts), *leaves)
        dense = torch_nb(*leaves).log_prob(dense_counts).sum(dim=1)
    ours = torch.autograd.grad((weight * sparse).sum(), leaves)
    expected = torch.autograd.grad((weight * dense).sum(), leaves)
    for one, other in zip(ours, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)


def test_the_protein_mixture_is_that_of_torch(parameters: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(2)
    proteins = torch.poisson(torch.full((N_CELLS, N_GENES), 15.0), generator=generator).double()
    log_background, log_theta = parameters["log_mean"], parameters["log_theta"]
    log_foreground, logits = log_background + 1.5, parameters["dropout_logits"]
    # Bernoulli gives (foreground, background) as categories 0 and 1.
    background = Bernoulli(logits=logits).probs
    mixture = MixtureSameFamily(
        Categorical(probs=torch.stack((1 - background, background), dim=-1)),
        torch_nb(torch.stack((log_foreground, log_background), dim=-1), log_theta[:, None]),
    )
    ours = log_protein_mixture(proteins, log_background, log_foreground, log_theta, logits)
    assert torch.allclose(ours, mixture.log_prob(proteins))
    assert torch.allclose(ours.sum(dim=1), Independent(mixture, 1).log_prob(proteins))


@pytest.mark.parametrize("logits", [-1000.0, 1000.0])
def test_a_certain_component_stays_finite_and_alone(logits: float) -> None:
    counts, log_background, log_foreground = torch.tensor([0.0, 7.0, 900.0]), torch.tensor(1.0), torch.tensor(4.0)
    certain = log_background if logits > 0 else log_foreground
    mixed = log_protein_mixture(counts, log_background, log_foreground, torch.tensor(0.5), torch.tensor(logits))
    assert torch.allclose(mixed, log_negative_binomial(counts, certain, torch.tensor(0.5)))


def test_a_batch_without_any_count() -> None:
    log_mean, log_theta = torch.zeros(3, 4), torch.zeros(4)
    rows = SparseRows.from_scipy(sp.csr_matrix((3, 4), dtype=np.float32))
    # NB(0; 1, 1) = 1 / 2
    assert torch.allclose(log_negative_binomial_rows(rows, log_mean, log_theta), torch.full((3,), -4 * np.log(2.0)))


def test_extremes_in_single_precision_stay_finite() -> None:
    counts = torch.tensor([0.0, 1.0, 1e6])
    for log_mean in (-60.0, 0.0, 15.0):
        for log_theta in (-12.0, 0.0, 12.0):
            leaves = [torch.tensor(log_mean, requires_grad=True), torch.tensor(log_theta, requires_grad=True)]
            value = log_negative_binomial(counts, *leaves)
            assert torch.isfinite(value).all()
            assert all(torch.isfinite(g) for g in torch.autograd.grad(value.sum(), leaves))
