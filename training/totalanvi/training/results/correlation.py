r"""How features vary together from cell to cell, by draws of their denoised expression.

.. math::

    \text{gene: } \mathrm{Gamma}(θ, θ / μ),\ μ = k ρ \qquad
    \text{protein: } v\, \mathrm{Gamma}(φ, φ / μ),\ μ = α β,\ v \sim \mathrm{Bernoulli}(1 - π)

that is, counts of a common library k without the noise of counting, and foreground without background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.training.data import Cells
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.option_checks import require_flag
from totalanvi.training.results.draw import draw, draw_rates
from totalanvi.training.results.drawn_array import with_rows
from totalanvi.training.results.moments import Matrix, Moments, spearman
from totalanvi.training.results.posterior import CellPosterior, posteriors

__all__ = ["CorrelationOptions", "denoised_blocks", "feature_correlation"]

_DRAWS_AT_ONCE = 4096
"""Draws of all features that are held, and ranked, together."""


@dataclass(frozen=True)
class CorrelationOptions:
    """What to correlate, and how.

    Parameters
    ----------
    n_samples
        Draws from the posterior of each cell.
    rna_size_factor
        k, the library that all cells share.
    decode_as
        Batch codes to decode as, whose correlations are averaged; a cell's own batch for `None`.
    by_rank
        Spearman's correlation, or else Pearson's.
    log_transform
        Take logarithms first: of genes with 1e-8, of proteins with 1 added.

    Raises
    ------
    ArgumentError
        For a flag that is neither true nor false.
    """

    n_samples: int
    rna_size_factor: float
    decode_as: Sequence[int | None]
    by_rank: bool
    log_transform: bool

    def __post_init__(self) -> None:
        require_flag(self, ("log_transform",))


@torch.inference_mode()
def feature_correlation(module: TotalVAE, cells: Cells, options: CorrelationOptions, batch_size: int) -> Matrix:
    """Correlations of genes and proteins over all draws of all cells, (genes + proteins, genes + proteins)."""
    n_features = module.dims.n_genes + module.dims.n_proteins
    total = np.zeros((n_features, n_features))
    for code in options.decode_as:
        blocks = denoised_blocks(module, cells, options, code, batch_size)
        total += spearman(blocks, n_features) if options.by_rank else _pearson(blocks, n_features)
    return total / len(options.decode_as)


def _pearson(blocks: Iterator[Tensor], n_features: int) -> Matrix:
    moments = Moments(n_features)
    for block in blocks:
        moments.add(block)
    return moments.correlation()


@torch.inference_mode()
def denoised_blocks(
    module: TotalVAE, cells: Cells, options: CorrelationOptions, code: int | None, batch_size: int
) -> Iterator[Tensor]:
    """Draws of denoised expression, (rows, genes + proteins), in blocks of a few thousand rows.

    Every cell has ``n_samples`` rows in all. A block is a random part of them, since ranks are taken within it.
    """
    for chosen in _random_parts(len(cells), options.n_samples):
        block = torch.empty(len(chosen), module.dims.n_genes + module.dims.n_proteins)
        for rows, posterior in with_rows(posteriors(module, cells[chosen], batch_size)):
            block[rows] = _denoised(module, posterior, options, code).cpu()
        yield block


def _random_parts(n_cells: int, n_samples: int) -> Iterator[npt.NDArray[np.intp]]:
    """Positions of cells in parts of at most `_DRAWS_AT_ONCE`, so that each occurs ``n_samples`` times in all."""
    n_parts = math.ceil(n_samples / max(1, _DRAWS_AT_ONCE // n_cells))
    for samples in np.array_split(np.arange(n_samples), n_parts):
        order = torch.cat([torch.randperm(n_cells) for _ in samples]).numpy()
        yield from np.array_split(order, math.ceil(len(order) / _DRAWS_AT_ONCE))


def _denoised(module: TotalVAE, posterior: CellPosterior, options: CorrelationOptions, code: int | None) -> Tensor:
    """Denoised expression at one draw, (cells, genes + proteins)."""
    drawn = draw(module, posterior, posterior.covariates.with_batch(code))
    genes = draw_rates(math.log(options.rna_size_factor) + drawn.log_scale, drawn.gene_log_theta)
    log_foreground = drawn.proteins.sample_log_background() + drawn.proteins.log_foreground_ratio
    foreground = torch.bernoulli(drawn.proteins.foreground_probability)
    proteins = foreground * draw_rates(log_foreground, drawn.protein_log_theta)
    if options.log_transform:
        genes, proteins = (genes + 1e-8).log(), proteins.log1p()
    return torch.cat((genes, proteins), dim=-1)
