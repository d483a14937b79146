"""What a readout is: a network for labels and proteins, the batches' scales of proteins, and where labels lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.readout.density import LabelDensity
from totalanvi.training.readout.network import ReadoutDimensions, ReadoutNetwork

__all__ = ["Readout"]

_NETWORK, _DIMENSIONS = "network.", "dimensions"


@dataclass(frozen=True, eq=False)
class Readout:
    """Answers for labels and proteins beside q(c | z) and the decoder, learned straight from counts.

    Parameters
    ----------
    network
        Labels and standardised proteins.
    batch_centre, batch_spread
        What standardised proteins are in log counts of each batch, (batches, proteins).
    density
        Where the labels lie, in components of the RNA and standardised proteins.
    """

    network: ReadoutNetwork
    batch_centre: npt.NDArray[np.float32]
    batch_spread: npt.NDArray[np.float32]
    density: LabelDensity

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays for a safetensors file."""
        return {
            **{f"{_NETWORK}{name}": value.numpy() for name, value in self.network.state_dict().items()},
            _DIMENSIONS: np.array(self.network.dims, dtype=np.int64),
            "batch_centre": self.batch_centre,
            "batch_spread": self.batch_spread,
            "density.mean": self.density.mean,
            "density.covariance": self.density.covariance,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return what `to_arrays` was given.

        Raises
        ------
        LookupError, TypeError, ValueError, RuntimeError
            When the arrays are not those of a readout.
        """
        with torch.random.fork_rng():  # first weights are drawn, and thrown away
            network = ReadoutNetwork(ReadoutDimensions(*(int(size) for size in arrays[_DIMENSIONS])))
        weights = {name.removeprefix(_NETWORK): value for name, value in arrays.items() if name.startswith(_NETWORK)}
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        return cls(
            network.eval().requires_grad_(False),
            arrays["batch_centre"],
            arrays["batch_spread"],
            LabelDensity(arrays["density.mean"], arrays["density.covariance"]),
        )
