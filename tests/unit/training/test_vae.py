"""The totalVI network: shapes, finiteness on the cells that break things, and means against Monte Carlo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.support.tiny_model import N_BATCHES, N_GENES, N_PROTEINS, TINY, tiny_batch, tiny_model
from torch import Tensor
from torch.distributions import LogNormal, NegativeBinomial

from totalanvi.training.data import CellBatch
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.decoders import ProteinParameters
from totalanvi.training.network.inputs import EncoderInputs

VARIANTS: list[dict[str, Any]] = [
    {},
    {"gene_likelihood": "zinb"},
    {"latent_distribution": "ln"},
    {"use_observed_lib_size": False},
    {"encode_covariates": False},
    {"norm_encoder": "batch", "norm_decoder": "none"},
    {"n_layers_encoder": 3, "n_layers_decoder": 2},
]
variants = pytest.mark.parametrize("options", VARIANTS, ids=lambda options: ",".join(map(str, options.values())) or "-")


@pytest.fixture(params=["counts", "empty", "one", "huge", "no proteins", "huge proteins"])
def edge(request: pytest.FixtureRequest) -> CellBatch:
    batch = tiny_batch(n_cells=6)
    counts = batch.rna.values
    match request.param:
        case "empty":
            nothing = batch.rna.columns[:0]
            starts = torch.zeros_like(batch.rna.row_starts)
            return replace(batch, rna=type(batch.rna)(starts, nothing, counts[:0], N_GENES))
        case "one":
            starts, columns = torch.arange(7), torch.zeros(6, dtype=torch.long)
            return replace(batch, rna=type(batch.rna)(starts, columns, torch.ones(6), N_GENES))
        case "huge":
            return replace(batch, rna=batch.rna.with_values(counts * 1e6))
        case "no proteins":
            return replace(batch, protein=torch.zeros(6, N_PROTEINS), measured=torch.zeros(6, N_PROTEINS).bool())
        case "huge proteins":
            return replace(batch, protein=batch.protein * 1e6)
    return batch


@variants
@pytest.mark.parametrize("labels", [0, 3])
def test_terms_and_gradients_are_finite(edge: CellBatch, options: dict[str, Any], labels: int) -> None:
    model = tiny_model(labels, **options).train()
    terms, hidden = model.with_hidden_view(edge, Augmentation())
    assert hidden.loss(1.0, 1.0).isfinite().all()
    for name in ("reconstruction_gene", "reconstruction_protein", "kl_latent", "kl_background", "kl_library"):
        term = getattr(terms, name)
        if name == "kl_library" and options.get("use_observed_lib_size", True):
            assert term is None
            continue
        assert term.shape == (6,), name
        assert torch.isfinite(term).all(), name
    assert terms.latent.shape == (6, 3)
    terms.loss().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@variants
def test_shapes(options: dict[str, Any]) -> None:
    model = tiny_model(**options)
    batch = tiny_batch(n_cells=6)
    inputs = EncoderInputs.of(batch, TINY)
    z, library = model.encode(inputs)
    assert z.mean.shape == z.scale.shape == (6, 3)
    assert (z.scale > 0).all()
    assert (library is None) is options.get("use_observed_lib_size", True)
    latent = model.transform(z.mean)
    log_share, dropout_logits = model.decode_genes(latent, inputs.covariates)
    assert log_share.shape == (6, N_GENES)
    assert torch.allclose(log_share.exp().sum(dim=-1), torch.ones(6))
    assert (dropout_logits is None) is (options.get("gene_likelihood") != "zinb")
    assert model.decode_proteins(latent, inputs.covariates).denoised().shape == (6, N_PROTEINS)
    # Leading dimensions, of draws for example, pass through.
    several = model.decode_proteins(latent.expand(5, 6, 3), Covariates(inputs.covariates.batch.expand(5, 6, N_BATCHES)))
    assert several.background_logits.shape == (5, 6, N_PROTEINS)


def test_the_logistic_normal_lives_on_the_simplex() -> None:
    latent = tiny_model(latent_distribution="ln")(tiny_batch()).latent
    assert (latent > 0).all()
    assert torch.allclose(latent.sum(dim=-1), torch.ones(len(latent)))


def test_sparse_and_dense_counts_encode_alike() -> None:
    model = tiny_model()
    sparse = EncoderInputs.of(tiny_batch(), TINY)
    dense = replace(sparse, rna=sparse.rna.to_dense())
    for one, other in zip(model.encode(sparse)[0], model.encode(dense)[0], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_cell_does_not_depend_on_its_neighbours() -> None:
    model = tiny_model()
    batch = tiny_batch()
    together = model.encode(EncoderInputs.of(batch, TINY))[0]
    rna = batch.rna.to_dense()
    for cell in range(batch.n_cells):
        row = slice(cell, cell + 1)
        alone = EncoderInputs.of(batch, TINY)
        alone = replace(
            alone,
            rna=rna[row],
            covariates=Covariates(alone.covariates.batch[row]),
            **{name: getattr(alone, name)[row] for name in ("library", "protein", "measured")},
        )
        assert torch.allclose(model.encode(alone)[0].mean, together.mean[row], atol=1e-6)


def test_what_was_not_measured_does_not_matter() -> None:
    """Counts under a mask of zero change neither the posterior nor the loss."""
    model = tiny_model()
    batch = tiny_batch(without_proteins=0.5)
    strange = replace(batch, protein=torch.where(batch.measured, batch.protein, torch.tensor(99.0)))
    losses = []
    for cells in (batch, strange):
        torch.manual_seed(0)
        losses.append(model(cells).loss())
    assert torch.equal(*losses)


NOTHING = Augmentation(no_panel=0.0, part_panel=0.0, unknown_batch=0.0)
EVERYTHING = Augmentation(no_panel=1.0, part_panel=0.0, unknown_batch=1.0)


def test_only_the_encoder_loses_what_is_hidden() -> None:
    """The likelihood goes on scoring the panel that was hidden."""
    model = tiny_model()
    batch = tiny_batch(without_proteins=0.0)
    _, hidden = model.with_hidden_view(batch, EVERYTHING)
    assert (hidden.reconstruction_protein > 0).all()


def test_a_hidden_view_matches_the_full_one_when_nothing_is_hidden() -> None:
    model = tiny_model().eval()
    batch = tiny_batch(without_proteins=0.0)
    matching = [model.with_hidden_view(batch, rates)[1].matching for rates in (NOTHING, EVERYTHING)]
    torch.testing.assert_close(matching[0], torch.zeros(batch.n_cells))
    assert (matching[1] > 1e-6).all()


@variants
def test_the_elbo_is_that_of_the_full_view_alone(options: dict[str, Any]) -> None:
    """Whatever else is computed along with it."""
    model = tiny_model(3, **options).eval()
    batch = tiny_batch()
    with torch.no_grad():
        model.encoder.z_log_variance.weight.zero_()
        model.encoder.z_log_variance.bias.fill_(-30.0)  # so that a draw is next to its mean
        alone, (terms, _) = model(batch), model.with_hidden_view(batch, replace(EVERYTHING, unknown_batch=0.0))
    torch.testing.assert_close(terms.posterior, alone.posterior)
    torch.testing.assert_close(terms.kl_background, alone.kl_background, rtol=0.05, atol=0.05)
    torch.testing.assert_close(terms.label_logits, alone.label_logits, rtol=0.05, atol=0.05)
    if options.get("use_observed_lib_size", True):
        torch.testing.assert_close(terms.reconstruction_gene, alone.reconstruction_gene, rtol=0.05, atol=0.5)


def test_counts_are_thinned_in_the_hidden_view_alone() -> None:
    model = tiny_model().eval()
    batch = tiny_batch(without_proteins=0.0)
    thinned = replace(NOTHING, thinning=1.0, thinning_floor=0.1)
    terms, hidden = model.with_hidden_view(batch, thinned)
    torch.testing.assert_close(terms.posterior, model(batch).posterior)
    assert hidden.matching.mean() > 1e-3


def test_matching_teaches_the_partial_posterior_alone() -> None:
    """The full posterior is the target: what RNA cannot tell must not be unlearned from it."""
    model = tiny_model().eval()
    batch = tiny_batch(without_proteins=0.0)
    terms, hidden = model.with_hidden_view(batch, EVERYTHING)
    terms.posterior.mean.retain_grad()
    hidden.matching.sum().backward()
    assert terms.posterior.mean.grad is None
    assert model.encoder.z_mean.weight.grad.abs().sum() > 0


@pytest.fixture
def proteins() -> ProteinParameters:
    torch.manual_seed(0)
    return ProteinParameters(
        log_background_mean=torch.randn(N_PROTEINS) + 2,
        log_background_scale=torch.rand(N_PROTEINS) * 0.5 + 0.1,
        foreground_excess=torch.rand(N_PROTEINS) * 5,
        background_logits=torch.randn(N_PROTEINS),
    )


def counted(proteins: ProteinParameters, log_efficiency: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Draw what the assay counts, (n, proteins), and which of it is foreground."""
    beta = LogNormal(proteins.log_background_mean, proteins.log_background_scale).sample((n,)) * log_efficiency.exp()
    foreground = torch.rand(n, N_PROTEINS) >= proteins.background_logits.sigmoid()
    mean = torch.where(foreground, beta * proteins.log_foreground_ratio.exp(), beta)
    theta = torch.tensor(3.0)
    return NegativeBinomial(theta, logits=mean.log() - theta.log()).sample(), foreground


def test_expected_counts_are_those_of_monte_carlo(proteins: ProteinParameters) -> None:
    log_efficiency, n = torch.tensor([0.5, -0.5, 0.0, 0.2]), 40_000
    counts, _ = counted(proteins, log_efficiency, n)
    error = counts.std(dim=0) / n**0.5
    assert ((counts.mean(dim=0) - proteins.expected(log_efficiency)).abs() < 4.5 * error).all()


def test_denoised_counts_are_the_foreground_of_monte_carlo(proteins: ProteinParameters) -> None:
    n = 40_000
    counts, foreground = counted(proteins, torch.zeros(N_PROTEINS), n)
    denoised = counts * foreground
    error = denoised.std(dim=0) / n**0.5
    assert ((denoised.mean(dim=0) - proteins.denoised()).abs() < 4.5 * error).all()
    share = foreground.float().mean(dim=0)
    assert torch.allclose(share, proteins.foreground_probability, atol=0.015)


def test_the_background_is_drawn_about_its_mean(proteins: ProteinParameters) -> None:
    many = ProteinParameters(*(getattr(proteins, name).expand(40_000, -1) for name in proteins.__dataclass_fields__))
    draws = many.sample_log_background()
    assert torch.allclose(draws.mean(dim=0), proteins.log_background_mean, atol=0.02)
    assert torch.allclose(draws.std(dim=0), proteins.log_background_scale, atol=0.02)
    assert torch.allclose(draws.exp().mean(dim=0), proteins.log_background.exp(), rtol=0.03)
