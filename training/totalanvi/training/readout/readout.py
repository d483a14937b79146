"""What a readout is: a network for labels and proteins, the batches' scales of proteins, and where labels lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.readout.density import LabelDensity
from totalanvi.training.readout.network import ReadoutDimensions, ReadoutNetwork

__all__ = ["Readout"]

_NETWORK, _DENSITY, _DIMENSIONS = "network.", "density.", "dimensions"


@dataclass(frozen=True, eq=False)
class Readout:
    """Answers for labels and proteins beside q(c | z) and the decoder, learned straight from counts.

    Parameters
    ----------
    network
        Labels and standardised proteins.
    batch_centre, batch_spread
        What standardised proteins are in log counts of each batch, (batches, proteins).
    protein_smear
        What ``exp`` of a predicted log count falls short of the mean count by, as a factor, (proteins,).
    density
        Where the labels lie, in components of the RNA and standardised proteins.

    References
    ----------
    Duan: Smearing estimate: a nonparametric retransformation method. JASA 78 (1983).
    """

    network: ReadoutNetwork
    batch_centre: npt.NDArray[np.float32]
    batch_spread: npt.NDArray[np.float32]
    protein_smear: npt.NDArray[np.float32]
    density: LabelDensity

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays for a safetensors file."""
        return {
            **{f"{_NETWORK}{name}": value.numpy() for name, value in self.network.state_dict().items()},
            _DIMENSIONS: np.array(self.network.dims, dtype=np.int64),
            "batch_centre": self.batch_centre,
            "batch_spread": self.batch_spread,
            "protein_smear": self.protein_smear,
            **{f"{_DENSITY}{name}": array for name, array in vars(self.density).items()},
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
            arrays["protein_smear"],
            LabelDensity(*(arrays[f"{_DENSITY}{field.name}"] for field in fields(LabelDensity))),
        )

    def keeping(self, proteins: npt.NDArray[np.intp]) -> Self:
        """Return the same readout of some of its proteins.

        Exact where the others were measured nowhere: regressions of these are zero, and the network never saw them.

        Parameters
        ----------
        proteins
            Positions of those to keep, ascending.
        """
        old = self.network.dims
        labels = old.n_proteins + np.arange(old.n_labels)
        answers = np.concatenate([proteins, labels])
        columns = np.concatenate([np.arange(old.n_components), old.n_components + answers])
        width = old.n_components + old.n_proteins + old.n_labels
        inputs = np.concatenate([columns, width + proteins, width + old.n_proteins + proteins])
        kept: dict[str, tuple[Any, ...]] = {
            "projection": (slice(None), columns),
            "projection_offset": (columns,),
            "protein_centre": (proteins,),
            "protein_spread": (proteins,),
            "panel_weights": (answers, slice(None)),
            "first": (slice(None), inputs, slice(None)),
            "past": (slice(None), inputs[:, None], answers),
            "last": (slice(None), slice(None), answers),
            "biases.2": (slice(None), slice(None), answers),
        }
        features = np.concatenate([np.arange(old.n_components), old.n_components + proteins])
        block = np.ix_(features, features)
        arrays = {name: array for name, array in self.to_arrays().items() if not name.startswith(_DENSITY)}
        for name, index in kept.items():
            arrays[f"{_NETWORK}{name}"] = arrays[f"{_NETWORK}{name}"][index]
        arrays |= {name: arrays[name][..., proteins] for name in ("batch_centre", "batch_spread", "protein_smear")}
        arrays |= {
            _DIMENSIONS: np.array(old._replace(n_proteins=len(proteins)), dtype=np.int64),
            f"{_DENSITY}mean": self.density.mean[:, features],
            f"{_DENSITY}covariance": np.array([covariance[block] for covariance in self.density.covariance]),
            f"{_DENSITY}shared_covariance": self.density.shared_covariance[block],
        }
        return self.from_arrays(arrays)
