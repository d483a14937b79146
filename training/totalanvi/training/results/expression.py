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
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.decoders import ProteinParameters
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.option_checks import require_flag
from totalanvi.training.results.drawn_array import DrawnArray, with_rows
from totalanvi.training.results.posterior import CellPosterior, posteriors

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

    Raises
    ------
    ArgumentError
        For flags that are neither true nor false.
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

    def __post_init__(self) -> None:
        require_flag(self, ("return_mean", "sample_protein_mixing", "scale_protein", "include_protein_background"))


Array = npt.NDArray[np.float32]


@torch.inference_mode()
def normalized_expression(
    module: TotalVAE, cells: Cells, options: ExpressionOptions, batch_size: int
) -> tuple[Array, Array]:
    """Denoised genes, (cells, genes[, samples]), and proteins, (cells, proteins[, samples])."""
    genes = _array(len(cells), len(options.genes), options)
    proteins = _array(len(cells), len(options.proteins), options)
    for rows, posterior in with_rows(posteriors(module, cells, batch_size)):
        for sample in range(options.n_samples):
            latent = module.transform(posterior.z.sample())
            everyone = _decoded_as(posterior, options)
            genes.take(rows, sample, _average([_genes(module, posterior, latent, as_, options) for as_ in everyone]))
            proteins.take(rows, sample, _average([_proteins(module, latent, as_, options) for as_ in everyone]))
    return genes.array, proteins.array


@torch.inference_mode()
def foreground_probability(module: TotalVAE, cells: Cells, options: ExpressionOptions, batch_size: int) -> Array:
    """Probability 1 − π that a protein's count is foreground, (cells, proteins[, samples])."""
    result = _array(len(cells), len(options.proteins), options)
    for rows, posterior in with_rows(posteriors(module, cells, batch_size)):
        for sample in range(options.n_samples):
            latent = module.transform(posterior.z.sample())
            decoded = [module.decode_proteins(latent, as_) for as_ in _decoded_as(posterior, options)]
            result.take(
                rows,
                sample,
                _average([parameters.foreground_probability[:, options.proteins] for parameters in decoded]),
            )
    return result.array


def _array(n_cells: int, n_features: int, options: ExpressionOptions) -> DrawnArray:
    return DrawnArray(n_cells, n_features, options.n_samples, keeps_draws=not options.return_mean)


def _average(decoded: list[Tensor]) -> Tensor:
    """Average over the batches that a draw was decoded as, (cells, features)."""
    return decoded[0] if len(decoded) == 1 else torch.stack(decoded).mean(dim=0)


def _decoded_as(posterior: CellPosterior, options: ExpressionOptions) -> list[Covariates]:
    return [posterior.covariates.with_batch(code) for code in options.decode_as]


def _genes(
    module: TotalVAE, posterior: CellPosterior, latent: Tensor, covariates: Covariates, options: ExpressionOptions
) -> Tensor:
    if len(options.genes) == 0:
        return latent.new_zeros(len(latent), 0)  # decoding every gene for none would be most of the work
    log_scale, _ = module.decode_genes(latent, covariates)
    scale = log_scale.exp()[:, options.genes]
    if options.library_size == "latent":
        return scale * module.log_size(posterior.cells, posterior.library).exp()
    return scale * options.library_size


def _proteins(module: TotalVAE, latent: Tensor, covariates: Covariates, options: ExpressionOptions) -> Tensor:
    if len(options.proteins) == 0:
        return latent.new_zeros(len(latent), 0)
    return _protein_values(module.decode_proteins(latent, covariates), options)


def _protein_values(parameters: ProteinParameters, options: ExpressionOptions) -> Tensor:
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
