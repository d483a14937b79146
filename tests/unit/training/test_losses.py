"""Every term of the ELBO against `torch.distributions` or a dense formula."""

from __future__ import annotations

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.distributions import Independent, NegativeBinomial, kl_divergence
from torch.distributions import Normal as TorchNormal

from totalanvi.training.data import SparseRows
from totalanvi.training.network.losses import (
    ElboTerms,
    Normal,
    efficiency_penalty,
    gene_reconstruction,
    kl_background,
    kl_library,
    kl_normals,
    kl_standard_normal,
    log_normal,
    protein_reconstruction,
)

N_CELLS, WIDTH = 5, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw_normal(*shape: int) -> Normal:
    return Normal(2 * torch.randn(*shape), torch.rand(*shape) + 0.1)


def of_torch(normal: Normal) -> TorchNormal:
    return TorchNormal(normal.mean, normal.scale)


def test_log_density_of_a_diagonal_gaussian() -> None:
    normal, value = draw_normal(N_CELLS, WIDTH), torch.randn(N_CELLS, WIDTH)
    assert torch.allclose(log_normal(value, normal), Independent(of_torch(normal), 1).log_prob(value))


def test_divergence_of_two_gaussians() -> None:
    q, p = draw_normal(N_CELLS, WIDTH), draw_normal(N_CELLS, WIDTH)
    assert torch.allclose(kl_normals(q, p), kl_divergence(of_torch(q), of_torch(p)), atol=1e-5)
    assert torch.allclose(kl_normals(q, q), torch.zeros(N_CELLS, WIDTH), atol=1e-6)


def test_divergence_from_the_standard_normal() -> None:
    q = draw_normal(N_CELLS, WIDTH)
    standard = TorchNormal(torch.zeros(WIDTH), torch.ones(WIDTH))
    assert torch.allclose(kl_standard_normal(q), kl_divergence(of_torch(q), standard).sum(dim=1))


def test_divergence_of_the_library() -> None:
    q, mean, variance = draw_normal(N_CELLS, 1), torch.randn(N_CELLS, 1), torch.rand(N_CELLS, 1) + 0.1
    expected = kl_divergence(of_torch(q), TorchNormal(mean, variance.sqrt())).squeeze(-1)
    assert torch.allclose(kl_library(q, Normal(mean, variance.sqrt())), expected, rtol=1e-4)


def test_divergence_of_the_background_leaves_out_what_was_not_measured() -> None:
    q, prior = draw_normal(N_CELLS, WIDTH), draw_normal(N_CELLS, WIDTH)
    measured = torch.rand(N_CELLS, WIDTH) < 0.5
    measured[3] = False
    expected = (kl_divergence(of_torch(q), of_torch(prior)) * measured).sum(dim=1)
    assert torch.allclose(kl_background(q, prior, measured), expected, rtol=1e-4)
    assert kl_background(q, prior, measured)[3] == 0


def test_the_penalty_of_efficiencies_is_a_standard_normal_but_for_a_constant() -> None:
    log_efficiency, measured = torch.randn(N_CELLS, WIDTH), torch.rand(N_CELLS, WIDTH) < 0.5
    standard = TorchNormal(0.0, 1.0)
    density = standard.log_prob(log_efficiency) - standard.log_prob(torch.zeros(()))
    assert torch.allclose(efficiency_penalty(log_efficiency, measured), -(density * measured).sum(dim=1))


@pytest.mark.parametrize("inflated", [False, True])
def test_reconstruction_of_genes(inflated: bool) -> None:
    dense = torch.poisson(torch.full((N_CELLS, WIDTH), 1.0))
    rows = SparseRows.from_scipy(sp.csr_matrix(dense.numpy()))
    log_mean, log_theta = torch.randn(N_CELLS, WIDTH), torch.randn(WIDTH)
    logits = torch.randn(N_CELLS, WIDTH)
    probability = NegativeBinomial(log_theta.exp(), logits=log_mean - log_theta).log_prob(dense).exp()
    if inflated:
        probability = logits.sigmoid() * (dense == 0) + (1 - logits.sigmoid()) * probability
    ours = gene_reconstruction(rows, log_mean, log_theta, logits if inflated else None)
    assert torch.allclose(ours, -probability.log().sum(dim=1), rtol=1e-4)


def test_reconstruction_of_proteins_leaves_out_what_was_not_measured() -> None:
    counts = torch.poisson(torch.full((N_CELLS, WIDTH), 12.0))
    measured = torch.rand(N_CELLS, WIDTH) < 0.6
    measured[0] = False
    log_background, log_ratio = torch.randn(N_CELLS, WIDTH) + 1, torch.rand(N_CELLS, WIDTH) * 2
    log_theta, logits = torch.rand(WIDTH), torch.randn(N_CELLS, WIDTH)

    def nb(log_mean: Tensor) -> Tensor:
        return NegativeBinomial(log_theta.exp(), logits=log_mean - log_theta).log_prob(counts).exp()

    background = logits.sigmoid()
    probability = background * nb(log_background) + (1 - background) * nb(log_background + log_ratio)
    ours = protein_reconstruction(counts, measured, log_background, log_ratio, log_theta, logits)
    assert torch.allclose(ours, -(probability.log() * measured).sum(dim=1), rtol=1e-4)
    assert ours[0] == 0


def test_a_draw_follows_its_parameters() -> None:
    mean = torch.zeros(1).requires_grad_()
    scale = torch.ones(1).requires_grad_()
    normal = Normal(mean.expand(20_000), scale.expand(20_000))
    draw = normal.sample()
    assert abs(draw.mean()) < 0.03
    assert abs(draw.std() - 1) < 0.03
    gradients = torch.autograd.grad(draw.sum() / 20_000, (mean, scale))
    assert torch.allclose(gradients[0], torch.ones(1))
    assert torch.allclose(gradients[1], draw.mean().detach(), atol=1e-5)


def test_weights_apply_where_they_should() -> None:
    one = torch.ones(N_CELLS)
    terms = ElboTerms(
        reconstruction_gene=one,
        reconstruction_protein=10 * one,
        kl_latent=100 * one,
        kl_background=1_000 * one,
        efficiency_penalty=1_000_000 * one,
        posterior=Normal(one, one),
        latent=one,
        kl_library=10_000 * one,
        kl_label=100_000 * one,
    )
    assert torch.equal(terms.kl_local, 101_100 * one)
    assert torch.equal(terms.loss(), 1_111_111 * one)
    # The penalty is a prior of parameters: the ELBO does not know it.
    assert torch.equal(terms.negative_elbo, 111_111 * one)
    # The library's divergence does not warm up: with it, the scale of the data would be lost at the start.
    assert torch.equal(terms.loss(kl_weight=0.5), 560_561 * one)
    assert torch.equal(terms.loss(kl_weight=0.0, protein_weight=2.0), 10_021 * one)


def test_terms_that_a_model_lacks_cost_nothing() -> None:
    one = torch.ones(N_CELLS)
    terms = ElboTerms(one, 10 * one, 100 * one, 1_000 * one, 0 * one, Normal(one, one), one)
    assert torch.equal(terms.loss(), 1_111 * one)
    assert torch.equal(terms.kl_local, 1_100 * one)
