"""What the encoder sees of a cell, and what is hidden from it while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from totalanvi.training.data import CellBatch, SparseRows
from totalanvi.training.network.augmentation import Augmentation
from totalanvi.training.network.covariates import Covariates
from totalanvi.training.network.dimensions import Dimensions

__all__ = ["EncoderInputs", "hide", "hide_batch", "scaled_counts", "scaled_proteins"]


@dataclass(frozen=True)
class EncoderInputs:
    """Raw inputs of the encoder; the transformations belong to the encoder, so that they travel with its graph."""

    rna: SparseRows | Tensor
    """Counts, (cells, genes), sparse or dense."""
    library: Tensor
    """Total RNA count, (cells, 1)."""
    protein: Tensor
    """Counts, (cells, proteins); 0 where not measured."""
    measured: Tensor
    """1 where measured, else 0, (cells, proteins)."""
    covariates: Covariates
    """Batch, all zero where it is unknown, and what else was registered."""
    rna_hidden: tuple[Tensor, ...] | None = None
    """What first layers have made of the RNA, (cells, hidden) each, see `Encoder.read_rna`; `None` before."""

    @classmethod
    def of(cls, cells: CellBatch, dims: Dimensions) -> EncoderInputs:
        """Everything that is known of these cells."""
        measured = cells.measured.to(cells.protein.dtype)
        return cls(
            rna=cells.rna,
            library=cells.library,
            protein=cells.protein,
            measured=measured,
            covariates=Covariates.of(cells, dims),
        )

    @classmethod
    def stacked(cls, views: Sequence[EncoderInputs]) -> EncoderInputs:
        """Put views of the same cells above each other, (views, cells, ...); first layers have read their RNA."""
        first, *others = views
        assert first.rna_hidden is not None
        hidden: tuple[Tensor, ...] = first.rna_hidden
        if any(view.rna_hidden is not hidden for view in others):
            hidden = tuple(torch.stack(each) for each in zip(*(view.rna_hidden or () for view in views), strict=True))
        return cls(
            rna=first.rna,
            library=torch.stack([view.library for view in views]),
            protein=torch.stack([view.protein for view in views]),
            measured=torch.stack([view.measured for view in views]),
            covariates=first.covariates.repeated(len(views))._replace(
                batch=torch.stack([view.covariates.batch for view in views])
            ),
            rna_hidden=hidden,
        )


def scaled_counts(counts: Tensor, library: Tensor, n_genes: int, take_log: bool = True, divide: bool = True) -> Tensor:
    """RNA counts as the encoder takes them: ``log(1 + x / (1 + x̄))``, the cell's mean count ``x̄ = library / genes``.

    Parameters
    ----------
    counts
        Any shape that broadcasts with ``library``; 0 stays 0, so that stored values can be transformed alone.
    library
        Total count of the cell over the model's genes.
    n_genes
        Number of the model's genes.
    take_log
        Whether the logarithm is taken.
    divide
        Whether counts are divided by ``1 + x̄``.
    """
    scaled = counts / (1.0 + library / n_genes) if divide else counts
    return torch.log1p(scaled) if take_log else scaled


def scaled_proteins(
    counts: Tensor, measured: Tensor, take_log: bool = True, mean_over: int | None = None, divide: bool = True
) -> Tensor:
    """Protein counts as the encoder takes them: ``log(1 + y / (1 + ȳ))``, the mean ȳ over the measured proteins.

    Parameters
    ----------
    counts, measured
        (cells, proteins); ``measured`` is 1 or 0.
    take_log
        Whether the logarithm is taken.
    mean_over
        Let ȳ be the mean over so many proteins, those that were not measured counting as zeros.
    divide
        Whether counts are divided by ``1 + ȳ``.
    """
    counts = counts * measured
    total = counts.sum(dim=-1, keepdim=True)
    n_counted = measured.sum(dim=-1, keepdim=True).clamp(min=1.0) if mean_over is None else mean_over
    scaled = counts / (1.0 + total / n_counted) if divide else counts
    return torch.log1p(scaled) if take_log else scaled


def hide_batch(inputs: EncoderInputs, rate: float) -> EncoderInputs:
    """Hide the batch of a share of the cells from the encoder: to it, a query's batch is unknown."""
    known = torch.rand(inputs.library.shape, device=inputs.library.device) >= rate
    covariates = inputs.covariates
    return replace(inputs, covariates=covariates._replace(batch=covariates.batch * known))


def hide(inputs: EncoderInputs, rates: Augmentation) -> EncoderInputs:
    """Hide from the encoder, cell by cell at random, what queries may lack.

    Parameters
    ----------
    inputs
        What is known of a mini-batch.
    rates
        How often each part is hidden.

    Returns
    -------
    EncoderInputs
        The inputs with whole panels, parts of panels, batches and some of the counts hidden.
    """
    n_cells, device = inputs.library.shape[0], inputs.library.device
    fate = torch.rand(n_cells, 1, device=device)
    kept_share = torch.where(
        fate < rates.no_panel,
        torch.zeros_like(fate),
        torch.where(fate < rates.no_panel + rates.part_panel, torch.rand_like(fate), torch.ones_like(fate)),
    )
    # A share of 1 keeps everything, since rand() < 1.
    measured = inputs.measured * (torch.rand_like(inputs.measured) < kept_share)
    rna, library, rna_hidden = inputs.rna, inputs.library, inputs.rna_hidden
    if rates.thinning > 0 and isinstance(rna, SparseRows):
        depth = rates.thinning_floor + (1.0 - rates.thinning_floor) * torch.rand(n_cells, device=device)
        depth = torch.where(torch.rand(n_cells, device=device) < rates.thinning, depth, torch.ones_like(depth))
        rna = rna.with_values(torch.binomial(rna.values, depth[rna.rows]))
        library, rna_hidden = rna.sum_per_row(rna.values).unsqueeze(-1), None
    seen = replace(
        inputs,
        rna=rna,
        library=library,
        protein=inputs.protein * measured,
        measured=measured,
        rna_hidden=rna_hidden,
    )
    return hide_batch(seen, rates.unknown_batch)
