"""Denoised expression of genes and proteins, accumulated sample by sample: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from totalanvi.training.data import Cells
from totalanvi.training.results.posterior import CellPosterior, posteriors
from totalanvi.training.vae import ProteinParameters, TotalVAE

__all__ = ["ExpressionOptions", "foreground_probability", "normalized_expression"]


@dataclass(frozen=True)
class ExpressionOptions:
    """What to decode, and how.

    Parameters
    ----------
    genes, proteins
        Positions of the features wanted.
    decode_as
        Batch codes to decode as and average over; a cell's own batch for `None`.
    n_samples
        Draws from the posterior.
    return_mean
        Average over the draws; otherwise they are kept as a last axis.
    library_size
        Scale of gene expression, or ``"latent"`` for each cell's own.
    sample_protein_mixing
        Draw background or foreground instead of weighing them.
    scale_protein
        Make a cell's proteins sum to 1.
    include_protein_background
        Add the background.
    """

    genes: npt.NDArray[np.intp]
    proteins: npt.NDArray[np.intp]
    decode_as: Sequence[int | None] = (None,)
    n_samples: int = 1
    return_mean: bool = True
    library_size: float | Literal["latent"] = 1.0
    sample_protein_mixing: bool = False
    scale_protein: bool = False
    include_protein_background: bool = False


Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@torch.inference_mode()
def normalized_expression(module: TotalVAE, cells: Cells, options: ExpressionOptions, batch_size: int) -> Arrays:
    """Denoised genes, (cells, genes[, samples]), and proteins, (cells, proteins[, samples])."""
    genes, proteins = [], []
    for posterior in posteriors(module, cells, batch_size):
        if options.return_mean:
            gene_mean, protein_mean = _decode(module, posterior, options)
            for _ in range(options.n_samples - 1):
                more_genes, more_proteins = _decode(module, posterior, options)
                gene_mean += more_genes
                protein_mean += more_proteins
            genes.append((gene_mean / options.n_samples).cpu().numpy())
            proteins.append((protein_mean / options.n_samples).cpu().numpy())
        else:
            draws = [_decode(module, posterior, options) for _ in range(options.n_samples)]
            genes.append(_stack([gene for gene, _ in draws]))
            proteins.append(_stack([protein for _, protein in draws]))
    return np.concatenate(genes), np.concatenate(proteins)


@torch.inference_mode()
def foreground_probability(
    module: TotalVAE, cells: Cells, options: ExpressionOptions, batch_size: int
) -> npt.NDArray[np.float32]:
    """Probability 1 − π that a protein's count is foreground, (cells, proteins[, samples])."""
    result = []
    for posterior in posteriors(module, cells, batch_size):
        draws = []
        for _ in range(options.n_samples):
            latent = module.transform(posterior.z.sample())
            decoded = [
                module.decode_proteins(latent, batch).foreground_probability for batch in _batches(posterior, options)
            ]
            draws.append(torch.stack(decoded).mean(dim=0)[:, options.proteins])
        keep = options.n_samples > 1 and not options.return_mean
        result.append(_stack(draws) if keep else torch.stack(draws).mean(dim=0).cpu().numpy())
    return np.concatenate(result)


def _decode(module: TotalVAE, posterior: CellPosterior, options: ExpressionOptions) -> tuple[Tensor, Tensor]:
    """One draw: genes and proteins, averaged over the batches to decode as."""
    latent = module.transform(posterior.z.sample())
    batches = list(_batches(posterior, options))
    genes = [_genes(module, posterior, latent, batch, options) for batch in batches]
    proteins = [_proteins(module.decode_proteins(latent, batch), options) for batch in batches]
    return torch.stack(genes).mean(dim=0), torch.stack(proteins).mean(dim=0)


def _batches(posterior: CellPosterior, options: ExpressionOptions) -> list[Tensor]:
    one_hot = torch.eye(posterior.batch.shape[1], device=posterior.batch.device)
    return [posterior.batch if code is None else one_hot[code].expand_as(posterior.batch) for code in options.decode_as]


def _genes(
    module: TotalVAE, posterior: CellPosterior, latent: Tensor, batch: Tensor, options: ExpressionOptions
) -> Tensor:
    if len(options.genes) == 0:
        return latent.new_zeros(len(latent), 0)  # decoding every gene for none would be most of the work
    log_scale, _ = module.decode_genes(latent, batch)
    scale = log_scale.exp()[:, options.genes]
    if options.library_size != "latent":
        return scale * options.library_size
    library = posterior.cells.library if posterior.library is None else posterior.library.sample().exp()
    return scale * library


def _proteins(parameters: ProteinParameters, options: ExpressionOptions) -> Tensor:
    if options.sample_protein_mixing:
        foreground = torch.bernoulli(parameters.foreground_probability)
    else:
        foreground = parameters.foreground_probability
    background_rate = parameters.log_background.exp()
    value = foreground * background_rate * parameters.log_foreground_ratio.exp()
    if options.include_protein_background:
        value = value + (1.0 - foreground) * background_rate
    if options.scale_protein:
        value = F.normalize(value, p=1.0, dim=-1)
    return value[:, options.proteins]


def _stack(draws: list[Tensor]) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = torch.stack(draws, dim=-1).cpu().numpy()
    return array
