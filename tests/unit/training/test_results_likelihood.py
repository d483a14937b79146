"""ELBO and marginal likelihood against quadrature: latent spaces small enough to be integrated on a grid."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mudata as md
import numpy as np
import pytest
import torch
from tests.support.reference_cells import draw_cells
from tests.support.tiny_model import N_BATCHES, N_GENES, N_PROTEINS, tiny_model
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, NegativeBinomial, Normal

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.likelihood import elbo, reconstruction_error
from totalanvi.training.results.marginal import marginal_log_likelihood

N_CELLS = 6
REACH = 6.0
"""How many standard deviations a grid reaches to either side."""

VARIANTS: list[dict[str, Any]] = [
    {"n_latent": 1},
    {"n_latent": 1, "gene_likelihood": "zinb"},
    {"n_latent": 1, "use_observed_lib_size": False},
    {"n_latent": 2, "latent_distribution": "ln"},
    {"n_latent": 1, "labels": 3},
    {"n_latent": 1, "labels": 3, "gene_dispersion": "gene-label"},
]
variants = pytest.mark.parametrize("options", VARIANTS, ids=lambda options: ",".join(map(str, options.values())))


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Some have labels, some lack proteins; the protein counts are where models that nobody trained expect them."""
    cells = draw_cells(N_CELLS, N_GENES, N_PROTEINS, N_BATCHES, seed=3)
    protein = np.random.default_rng(0).poisson(2.0, cells.protein.shape).astype(np.float32)
    return replace(cells, protein=protein * cells.measured)


def grid(dimensions: int, n: int, low: float, high: float) -> tuple[Tensor, float]:
    """Points, (points, dimensions), and the log of the volume that each stands for."""
    line = torch.linspace(low, high, n)
    points = torch.cartesian_prod(*[line] * dimensions).reshape(-1, dimensions)
    return points, dimensions * math.log(float(line[1] - line[0]))


def log_integral(values: Tensor, log_volume: float) -> Tensor:
    return values.logsumexp(dim=-1) + log_volume


def mean_under(log_q: Tensor, values: Tensor, log_volume: float) -> Tensor:
    return ((log_q + log_volume).exp() * values).sum(dim=-1)


@torch.no_grad()
def integrated(model: TotalVAE, cells: Cells) -> tuple[Tensor, Tensor, Tensor]:
    """Log-likelihood of each cell, its ELBO, E_q log p(x | z, ℓ), by quadrature: only networks are the model's."""
    batch = cells.to_batch()
    inputs = EncoderInputs.of(batch, model.dims)
    q_z_all, q_library_all = model.encode(inputs)
    z, log_dz = grid(model.config.n_latent, 300 if model.config.n_latent == 1 else 40, -REACH, REACH)
    latent = model.transform(z)
    log_likelihoods, bounds, genes_alone = [], [], []
    for n in range(len(cells)):
        label = int(batch.label[n])
        covariates = Covariates(inputs.covariates.batch[n].expand(len(z), -1))
        weights = model.label_weights(latent, batch.label[n].expand(len(z)))
        log_q_z = Normal(q_z_all.mean[n], q_z_all.scale[n]).log_prob(z).sum(dim=-1)
        q_library = None if q_library_all is None else Normal(q_library_all.mean[n], q_library_all.scale[n])
        log_x, bound_x, expected_x = genes(model, cells, n, latent, covariates, weights, q_library)
        log_y, bound_y = proteins(model, cells, n, latent, covariates)
        log_z, bound_z = prior(model, z, latent, label)
        log_likelihoods.append(log_integral(log_x + log_y + log_z, log_dz))
        bounds.append(mean_under(log_q_z, bound_x + bound_y + bound_z - log_q_z, log_dz))
        genes_alone.append(mean_under(log_q_z, expected_x, log_dz))
    return torch.stack(log_likelihoods), torch.stack(bounds), torch.stack(genes_alone)


def genes(
    model: TotalVAE,
    cells: Cells,
    n: int,
    latent: Tensor,
    covariates: Covariates,
    weights: Tensor | None,
    q_library: Normal | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """At each z, (z,): log p(x | z), its bound, E_q log p(x | z, ℓ); ℓ integrated out where it is inferred."""
    x = torch.from_numpy(cells.rna[[n]].toarray()[0])
    log_scale, dropout = model.decode_genes(latent, covariates)
    log_theta = model.px_r if weights is None else weights @ model.px_r.t()

    def given(log_library: Tensor) -> Tensor:
        counts = NegativeBinomial(log_theta.exp(), logits=log_library + log_scale - log_theta)
        log_p = counts.log_prob(x)
        if dropout is not None:
            extra = Bernoulli(logits=dropout)
            zero = torch.where(x == 0, extra.log_prob(torch.ones_like(x)), -torch.inf)
            log_p = torch.logaddexp(zero, extra.log_prob(torch.zeros_like(x)) + log_p)
        return log_p.sum(dim=-1)

    if q_library is None:
        log_p = given(x.sum().clamp(min=1.0).log())
        return log_p, log_p, log_p
    points, log_volume = grid(1, 160, -8.0, 8.0)
    mean, variance = model.library_log_means[0, cells.batch[n]], model.library_log_vars[0, cells.batch[n]]
    log_prior, log_q = Normal(mean, variance.sqrt()).log_prob(points[:, 0]), q_library.log_prob(points[:, 0])
    log_p = torch.stack([given(point) for point in points[:, 0]], dim=-1)
    bound = mean_under(log_q, log_p + log_prior - log_q, log_volume)
    return log_integral(log_p + log_prior, log_volume), bound, mean_under(log_q, log_p, log_volume)


def proteins(model: TotalVAE, cells: Cells, n: int, latent: Tensor, covariates: Covariates) -> tuple[Tensor, Tensor]:
    """log p(y | z) at each z, (z,), and its bound, backgrounds integrated out."""
    y, measured = torch.from_numpy(cells.protein[n]), torch.from_numpy(cells.measured[n])
    decoded = model.decode_proteins(latent, covariates)
    log_beta, log_volume = grid(1, 120, -7.0, 7.0)  # (β, 1) beside (z, proteins, 1)
    log_beta = log_beta[:, 0]
    shifted = log_beta + model.log_per_batch_efficiency[:, cells.batch[n], None]
    means = torch.stack(torch.broadcast_tensors(shifted, shifted + decoded.log_foreground_ratio[..., None]), dim=-1)
    logits = torch.stack((decoded.background_logits, torch.zeros_like(decoded.background_logits)), dim=-1)
    mixture = MixtureSameFamily(
        Categorical(logits=logits[..., None, :].expand(means.shape)),
        NegativeBinomial(model.py_r.exp()[:, None, None], logits=means - model.py_r[:, None, None]),
    )
    panel = cells.panel[n]
    prior_beta = Normal(model.background_pro_alpha[:, panel, None], model.background_pro_log_beta[:, panel, None].exp())
    q_beta = Normal(decoded.log_background_mean[..., None], decoded.log_background_scale[..., None])
    log_p = mixture.log_prob(y[:, None]) + prior_beta.log_prob(log_beta)
    log_q = q_beta.log_prob(log_beta)
    exact, bound = log_integral(log_p, log_volume), mean_under(log_q, log_p - log_q, log_volume)
    return exact[:, measured].sum(dim=-1), bound[:, measured].sum(dim=-1)


def prior(model: TotalVAE, z: Tensor, latent: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """log p(z), or log p(z, c), at each z, (z,), and its bound, u and an unknown c integrated out."""
    standard = Normal(0.0, 1.0)
    if not model.dims.n_labels:
        log_p = standard.log_prob(z).sum(dim=-1)
        return log_p, log_p
    u, log_volume = grid(1, 400, -REACH, REACH)
    log_pi = Categorical(logits=model.label_prior_logits).logits
    exact, bound = [], []
    for code in range(model.dims.n_labels):
        p_z = model.decoder_z(u, torch.full((len(u),), code))
        log_p = Normal(p_z.mean[:, 0], p_z.scale[:, 0]).log_prob(z) + standard.log_prob(u[:, 0]) + log_pi[code]
        q_u = model.encoder_u(z, torch.full((len(z),), code))
        log_q = Normal(q_u.mean, q_u.scale).log_prob(u[:, 0])
        exact.append(log_integral(log_p, log_volume))
        bound.append(mean_under(log_q, log_p - log_q, log_volume))
    if label != UNLABELLED:
        return exact[label], bound[label]
    q_c = Categorical(logits=model.classify(latent))
    expected = (q_c.probs * (torch.stack(bound, dim=-1) - q_c.logits)).sum(dim=-1)
    return torch.stack(exact, dim=-1).logsumexp(dim=-1), expected


@variants
def test_likelihood_and_bound_are_those_of_quadrature(options: dict[str, Any], cells: Cells) -> None:
    model = tiny_model(**options)
    log_likelihood, bound, log_x = integrated(model, cells)
    assert (bound < log_likelihood).all()
    torch.manual_seed(0)
    # The same cells many times make as many draws at once.
    n_times = 2_000
    many, batch_size = cells[np.tile(np.arange(N_CELLS), n_times)], N_CELLS * n_times

    parts = marginal_log_likelihood(model, many, n_samples=5, batch_size=batch_size).view(n_times, N_CELLS)
    found = parts.logsumexp(dim=0) - math.log(n_times)
    assert ((found - log_likelihood).abs() < 4.5 * standard_error((parts - found).exp()) + 1e-3).all()

    draws = elbo(model, many, batch_size).view(n_times, N_CELLS)
    assert ((draws.mean(dim=0) - bound).abs() < 4.5 * standard_error(draws) + 1e-3).all()
    assert (draws.mean(dim=0) < found).all()

    errors = reconstruction_error(model, many, batch_size)["reconst_loss_gene"].view(n_times, N_CELLS)
    assert ((errors.mean(dim=0) + log_x).abs() < 4.5 * standard_error(errors) + 1e-3).all()


def standard_error(draws: Tensor) -> Tensor:
    return draws.std(dim=0) / len(draws) ** 0.5


@pytest.mark.parametrize("labels", [0, 3])
def test_more_draws_bring_the_estimate_closer(labels: int, cells: Cells) -> None:
    """On average, the estimate of few draws lies below, and rises with their number."""
    model = tiny_model(labels, n_latent=1)
    exact = integrated(model, cells)[0].mean()
    many = cells[np.tile(np.arange(N_CELLS), 400)]
    torch.manual_seed(0)
    few, more = (marginal_log_likelihood(model, many, n, batch_size=len(many)).mean() for n in (1, 20))
    assert few < more < exact


def test_proteins_that_were_not_measured_cost_nothing(cells: Cells) -> None:
    errors = reconstruction_error(tiny_model(), cells, batch_size=4)["reconst_loss_protein"]
    measured = torch.from_numpy(cells.measured.any(axis=1))
    assert (~measured).any()
    assert torch.equal(errors > 0, measured)


def test_numbers_of_a_trained_model(trained: TOTALANVI, trained_totalvi: TOTALVI) -> None:
    for model in (trained, trained_totalvi):
        torch.manual_seed(0)
        each = model.get_elbo(indices=range(50), batch_size=16, return_mean=False)
        assert each.shape == (50,)
        torch.manual_seed(0)
        assert torch.equal(model.get_elbo(indices=range(50), batch_size=16), each.mean())
        marginal = model.get_marginal_ll(indices=range(50), n_mc_samples=10, return_mean=False)
        assert isinstance(marginal, Tensor)
        assert marginal.mean() > each.mean()
        error = model.get_reconstruction_error(indices=range(50))
        assert error.keys() == {"reconst_loss_gene", "reconst_loss_protein"}
        assert sum(error.values()) < -each.mean()
        assert isinstance(model.get_marginal_ll(indices=range(50), n_mc_samples=2), float)


def test_what_is_learned_is_likelier(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    """Than under the weights of the start, by every measure."""
    start = TOTALANVI(reference_mdata, n_latent=8, n_hidden=64, empirical_protein_background_prior=False)
    cells = range(0, 400, 10)
    assert trained.get_elbo(indices=cells) > start.get_elbo(indices=cells)
    assert trained.get_marginal_ll(indices=cells, n_mc_samples=5) > start.get_marginal_ll(indices=cells, n_mc_samples=5)
    learned, initial = (model.get_reconstruction_error(indices=cells) for model in (trained, start))
    assert all(learned[part] < initial[part] for part in initial)


def test_at_least_one_draw(trained: TOTALANVI) -> None:
    with pytest.raises(ArgumentError, match="n_mc_samples: expected a whole number of at least 1, found 0"):
        trained.get_marginal_ll(n_mc_samples=0)
