"""What a bundle keeps of a readout besides its graph."""

from __future__ import annotations

import numpy as np

from totalanvi.serving.readout_arrays import ReadoutArrays
from totalanvi.training.readout.readout import Readout

__all__ = ["readout_arrays"]


def readout_arrays(readout: Readout) -> ReadoutArrays:
    """Name a readout's arrays as the bundle does.

    Parameters
    ----------
    readout
        As it was fitted.
    """
    density, network = readout.density, readout.network
    return ReadoutArrays(
        protein_centre=network.protein_centre.numpy(),
        protein_spread=network.protein_spread.numpy(),
        protein_smear=readout.protein_smear,
        batch_centre=readout.batch_centre,
        batch_spread=readout.batch_spread,
        density_mean=density.mean,
        density_covariance=density.covariance,
        density_shared=density.shared_covariance,
        novelty_scale=np.asarray(readout.novelty_scale),
    )
