"""One yardstick for both packages: the held-out evidence bound of a cell, from what a model says of it.

Neither package judges itself. An adapter asks a trained network for the parameters of its distributions, with one draw
of what is latent; `negative_elbo` does the rest, in torch's own distributions. No term is weighed, nothing is hidden
from the encoder, and the label of a held-out cell is unknown:

    −log p(x | z, ℓ) − log p(y | z, β) + KL(q(β) ‖ p(β)) + log q(z)
        + Σ_c q(c | z) [KL(q(u | z, c) ‖ N(0, I)) − log p(z | u, c)] + KL(q(c | z) ‖ π)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anndata as ad
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, kl_divergence

__all__ = ["ADAPTERS", "Described", "measure", "negative_elbo"]

CELLS_AT_ONCE = 500


@dataclass(frozen=True)
class Described:
    """Cells, and what a model says of them after one draw of z, u and β."""

    genes: Tensor
    """Counts, (cells, genes)."""
    proteins: Tensor
    """Counts, (cells, proteins)."""
    gene_log_mean: Tensor
    """(cells, genes)."""
    gene_log_theta: Tensor
    """Log inverse dispersion, (genes,)."""
    background: Normal
    """q(log β), (cells, proteins)."""
    background_prior: Normal
    """p(log β), (cells, proteins)."""
    log_background: Tensor
    """Log mean of the background, (cells, proteins): a draw from q(log β), and the batch's efficiency."""
    log_foreground_ratio: Tensor
    """How far the foreground lies above it, (cells, proteins)."""
    protein_log_theta: Tensor
    """(proteins,)."""
    background_logits: Tensor
    """Logits of π, (cells, proteins)."""
    q_z: Normal
    """(cells, latent)."""
    z: Tensor
    """A draw, (cells, latent)."""
    label_logits: Tensor
    """Logits of q(c | z), (cells, labels)."""
    mean_logits: Tensor
    """The same at the mean of q(z): those that predict."""
    label_prior: Tensor
    """π, (labels,)."""
    q_u: Normal
    """q(u | z, c) of each label, (labels, cells, latent)."""
    p_z: Normal
    """p(z | u, c) with one draw of u, (labels, cells, latent)."""


def negative_elbo(cells: Described) -> Tensor:
    """Nats, (cells,); less is better."""
    genes = _negative_binomial(cells.gene_log_mean, cells.gene_log_theta).log_prob(cells.genes).sum(dim=-1)
    background = _negative_binomial(cells.log_background, cells.protein_log_theta)
    foreground = _negative_binomial(cells.log_background + cells.log_foreground_ratio, cells.protein_log_theta)
    proteins = torch.logaddexp(
        F.logsigmoid(cells.background_logits) + background.log_prob(cells.proteins),
        F.logsigmoid(-cells.background_logits) + foreground.log_prob(cells.proteins),
    ).sum(dim=-1)
    kl_background = kl_divergence(cells.background, cells.background_prior).sum(dim=-1)
    kl_u = kl_divergence(cells.q_u, Normal(torch.zeros(()), torch.ones(()))).sum(dim=-1)
    each_label = (kl_u - cells.p_z.log_prob(cells.z).sum(dim=-1)).t()
    log_q = torch.log_softmax(cells.label_logits, dim=-1)
    over_labels = (log_q.exp() * (each_label + log_q - cells.label_prior.log())).sum(dim=-1)
    return kl_background + cells.q_z.log_prob(cells.z).sum(dim=-1) + over_labels - genes - proteins


def _negative_binomial(log_mean: Tensor, log_theta: Tensor) -> NegativeBinomial:
    return NegativeBinomial(total_count=log_theta.exp(), logits=log_mean - log_theta, validate_args=False)


@torch.inference_mode()
def measure(package: str, model: Any, held_out: ad.AnnData, true_codes: Tensor, n_draws: int) -> tuple[float, float]:
    """Return the mean negative ELBO of held-out cells over several draws, and the share of their labels that is right.

    Training goes on as if nothing had happened: random numbers and the mode of the network are put back.
    """
    module = model.module
    was_training = {part: part.training for part in module.modules()}
    module.eval()
    sums, right, n_seen = 0.0, 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for described in ADAPTERS[package](model, held_out, n_draws):
            sums += float(negative_elbo(described).double().sum())
            begins = (n_seen % held_out.n_obs) if n_seen else 0
            codes = true_codes[begins : begins + len(described.z)]
            right += int((described.mean_logits.argmax(dim=-1) == codes).sum())
            n_seen += len(described.z)
    for part, training in was_training.items():
        part.training = training
    return sums / n_seen, right / n_seen


def _of_totalanvi(model: Any, held_out: ad.AnnData, n_draws: int) -> Iterator[Described]:
    from totalanvi.training.loaders import cell_loader
    from totalanvi.training.network.inputs import EncoderInputs

    module = model.module
    cells, _ = model._cells_of(held_out, None)
    for _ in range(n_draws):
        for batch in cell_loader(cells, batch_size=CELLS_AT_ONCE):
            inputs = EncoderInputs.of(batch, module.dims)
            q_z, q_library = module.encode(inputs)
            z = q_z.sample()
            log_share, _ = module.decode_genes(z, inputs.covariates)
            proteins = module.decode_proteins(z, inputs.covariates)
            prior = module.background_prior(batch.panel)
            given_label = [_chain(module, z, torch.full((len(z),), code)) for code in range(module.dims.n_labels)]
            yield Described(
                genes=batch.rna.to_dense(),
                proteins=batch.protein,
                gene_log_mean=log_share + module.log_size(batch, q_library),
                gene_log_theta=module.gene_log_theta(inputs.covariates),
                background=Normal(proteins.log_background_mean, proteins.log_background_scale),
                background_prior=Normal(prior.mean, prior.scale),
                log_background=proteins.sample_log_background() + module.log_efficiency(inputs.covariates.batch),
                log_foreground_ratio=proteins.log_foreground_ratio,
                protein_log_theta=module.protein_log_theta(inputs.covariates),
                background_logits=proteins.background_logits,
                q_z=Normal(q_z.mean, q_z.scale),
                z=z,
                label_logits=module.classify(z),
                mean_logits=module.classify(q_z.mean),
                label_prior=module.label_prior_logits.softmax(dim=-1),
                q_u=_stacked([q_u for q_u, _ in given_label]),
                p_z=_stacked([p_z for _, p_z in given_label]),
            )


def _chain(module: Any, z: Tensor, label: Tensor) -> tuple[Normal, Normal]:
    q_u = module.encoder_u(z, label)
    p_z = module.decoder_z(q_u.sample(), label)
    return Normal(q_u.mean, q_u.scale), Normal(p_z.mean, p_z.scale)


def _stacked(normals: list[Normal]) -> Normal:
    return Normal(torch.stack([each.loc for each in normals]), torch.stack([each.scale for each in normals]))


def _of_scvi_tools(model: Any, held_out: ad.AnnData, n_draws: int) -> Iterator[Described]:
    module, n_labels = model.module, model.module.n_labels
    held_out = model._validate_anndata(held_out)
    for _ in range(n_draws):
        for tensors in model._make_data_loader(adata=held_out, batch_size=CELLS_AT_ONCE):
            inference = module.inference(**module._get_inference_input(tensors))
            generative = module.generative(**module._get_generative_input(tensors, inference))
            genes, proteins = generative["px_"], generative["py_"]
            z = inference["z"]
            one_hot = torch.eye(n_labels).repeat_interleave(len(z), dim=0)
            repeated = z.repeat(n_labels, 1)
            q_u, u = module.encoder_z2_z1(repeated, one_hot)
            p_z_mean, p_z_variance = module.decoder_z1_z2(u, one_hot)
            shape = (n_labels, *z.shape)
            yield Described(
                genes=tensors["X"],
                proteins=tensors["proteins"],
                gene_log_mean=genes["rate"].log(),
                gene_log_theta=genes["r"].log(),
                background=Normal(proteins["back_alpha"], proteins["back_beta"]),
                background_prior=inference["back_mean_prior"],
                log_background=(proteins["rate_back"] * generative["per_batch_efficiency"]).log(),
                log_foreground_ratio=proteins["fore_scale"].log(),
                protein_log_theta=proteins["r"].log(),
                background_logits=proteins["mixing"],
                q_z=inference["qz"],
                z=z,
                label_logits=module.classifier(z),
                mean_logits=module.classifier(inference["qz"].loc),
                label_prior=module.y_prior[0],
                q_u=Normal(q_u.loc.view(shape), q_u.scale.view(shape)),
                p_z=Normal(p_z_mean.view(shape), p_z_variance.sqrt().view(shape)),
            )


ADAPTERS: dict[str, Callable[[Any, ad.AnnData, int], Iterator[Described]]] = {
    "totalanvi": _of_totalanvi,
    "scvi-tools": _of_scvi_tools,
}
