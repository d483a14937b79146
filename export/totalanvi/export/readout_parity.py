"""What a readout answers, computed by torch from its own parts: what serving is held against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from totalanvi.serving.bundles.graphs import READOUT
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays
from totalanvi.training.data import Cells
from totalanvi.training.readout.network import ReadoutNetwork
from totalanvi.training.readout.readout import Readout

__all__ = ["added_up", "readout_counts", "readout_feed", "readout_outputs"]


def readout_feed(cells: Cells, network: ReadoutNetwork) -> dict[str, Tensor]:
    """Return the inputs of `totalanvi.serving.bundles.graphs.READOUT` for cells with all genes."""
    batch = cells.to_batch()
    inputs = (batch.rna.to_dense(), added_up(cells), batch.protein, batch.measured.float())
    return dict(zip(READOUT.inputs, (*inputs, *network.every_gene), strict=True))


def added_up(cells: Cells) -> Tensor:
    """Return the total counts of cells as serving adds them up, (cells, 1).

    Training adds in single precision: the same for all that a cell can hold, but not for thousands of genes with a
    million counts each, of which a small latent is made.
    """
    return torch.from_numpy(np.asarray(cells.rna.sum(axis=1, dtype=np.float64), dtype=np.float32))


def readout_outputs(readout: Readout, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the network makes of its inputs, by the names of the graph's outputs."""
    return dict(zip(READOUT.outputs, readout.network(*feed.values()), strict=True))


def readout_counts(
    readout: Readout,
    arrays: ReadoutArrays,
    standardised: Tensor,
    decoded: Mapping[str, Tensor],
    measured: Tensor,
    weights: npt.NDArray[np.floating],
) -> dict[str, Tensor]:
    """Return counts without background and with it, where the readout imputes and where the decoder does.

    Parameters
    ----------
    readout
        As it was fitted.
    arrays
        Of the bundle: what share of a count is no background.
    standardised
        The readout's proteins, (cells, proteins).
    decoded
        "denoised" and "expected" of the decoder, (cells, proteins).
    measured
        Which proteins were measured, (cells, proteins), bool.
    weights
        Of each batch in each protein, (batches, proteins).
    """
    centre, spread = torch.from_numpy(readout.batch_centre), torch.from_numpy(readout.batch_spread)
    logs = centre.unsqueeze(1) + spread.unsqueeze(1) * standardised
    counts = (logs.exp() * torch.from_numpy(readout.protein_smear) - 1).clamp(min=0)
    expected = (torch.as_tensor(weights, dtype=torch.float32).unsqueeze(1) * counts).sum(dim=0)
    columns = zip(expected.log1p().T.numpy(), arrays.share_knots, arrays.share, strict=True)
    share = torch.from_numpy(np.stack([np.interp(*column) for column in columns], axis=1)).float()
    answers = {"expected": expected, "denoised": expected * share}
    return {name: torch.where(measured, decoded[name], answer) for name, answer in answers.items()}
