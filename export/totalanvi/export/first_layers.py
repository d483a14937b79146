"""The first layers of a model and its readout, as the arrays that serving computes from sparse rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from totalanvi.serving.bundles.first_layer import EncoderFirst, FirstLayers, ReadoutFirst
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.readout.network import ReadoutNetwork

__all__ = ["first_layers"]


def first_layers(module: TotalANVAE, readout: ReadoutNetwork | None) -> FirstLayers:
    """Take the first layers out.

    Parameters
    ----------
    module
        The trained model.
    readout
        The network of its readout, if it has one.
    """
    weight = _array(module.encoder.rna_in.weight).T
    n_genes, n_hidden = weight.shape
    # Here, the first layer's bias belongs to the map of proteins, and an absent gene counts as no count.
    encoder = EncoderFirst(
        np.ascontiguousarray(weight), np.zeros(n_genes, dtype=np.float32), np.zeros(n_hidden, dtype=np.float32)
    )
    if readout is None:
        return FirstLayers(encoder, None)
    arrays = (readout.projection, readout.projection_centre, readout.projection_offset)
    return FirstLayers(encoder, ReadoutFirst(*map(_array, arrays)))


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)
