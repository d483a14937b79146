"""The first layers of encoder and readout as arrays: what makes them cheap on sparse rows, outside of their graphs.

Both are linear in the logarithms of scaled counts, and the logarithm of no count is 0: they cost as much as a cell has
counts, where a graph multiplies whole rows of genes. A bundle's graphs are complete without them; these arrays, and the
graphs of what comes after (`ENCODER_REST`, `READOUT_REST`), are there for speed, the readout's also for what fills in
missing genes (`totalanvi.serving.engine.missing_genes`). Export proves that they agree.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.array_file import ArrayFile
from totalanvi.serving.bundles.manifest import ENCODER_FIRST_FILE, READOUT_FIRST_FILE, Manifest
from totalanvi.serving.bundles.sixteen_bits import from_stored, stored

__all__ = ["EncoderFirst", "FirstLayer", "FirstLayers", "ReadoutFirst"]

_READOUT_LIBRARY = np.float32(10_000)
"""Total count that a readout brings cells to."""


@dataclass(frozen=True, eq=False)
class FirstLayer(ArrayFile):
    """One linear map of log(1 + scaled count); all float32. A file holds weights that 16 bits hold as such
    (`totalanvi.serving.bundles.sixteen_bits`), as a bundle in lower precision has them.

    Parameters
    ----------
    weight
        (genes, columns).
    centre
        What a present gene's logarithm is compared with, (genes,); a gene that the query lacks counts as this much.
    offset
        What is added in the end, (columns,).
    """

    weight: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]

    @classmethod
    @abstractmethod
    def scale(cls, library: npt.NDArray[np.float32], n_genes: int) -> npt.NDArray[np.float32]:
        """Return what each cell's counts are multiplied by before the logarithm, from its total count, (cells,)."""

    def problem(self, manifest: Manifest) -> str | None:
        """Return what does not fit the manifest, None when all does."""
        n_genes, n_columns = len(manifest.genes.names), self.weight.shape[-1] if self.weight.ndim else 0
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (n_genes, n_columns),
            "centre": (n_genes,),
            "offset": (n_columns,),
        }
        return self.shape_problem(shapes) or self.finite_problem(tuple(shapes))

    @classmethod
    def _from_stored(cls, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        return arrays | {"weight": from_stored(arrays["weight"])}

    @classmethod
    def _stored(cls, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        return arrays | {"weight": stored(arrays["weight"])}


class EncoderFirst(FirstLayer):
    """The encoder's map of RNA: counts are divided by one more than the cell's mean count."""

    FILE: ClassVar[str] = ENCODER_FIRST_FILE

    @classmethod
    def scale(cls, library: npt.NDArray[np.float32], n_genes: int) -> npt.NDArray[np.float32]:
        """Return ``1 / (1 + library / genes)``, (cells,)."""
        return np.asarray(1 / (1 + library / np.float32(n_genes)), dtype=np.float32)


class ReadoutFirst(FirstLayer):
    """The readout's projection: counts are those of a cell with 10,000 in all."""

    FILE: ClassVar[str] = READOUT_FIRST_FILE

    @classmethod
    def scale(cls, library: npt.NDArray[np.float32], n_genes: int) -> npt.NDArray[np.float32]:
        """Return ``10,000 / library``, (cells,)."""
        return np.asarray(_READOUT_LIBRARY / np.maximum(library, 1), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class FirstLayers:
    """First layers that can be computed outside of the graphs.

    Parameters
    ----------
    encoder
        The encoder's.
    readout
        The readout's; None in a bundle without one.
    """

    encoder: EncoderFirst
    readout: ReadoutFirst | None

    def __iter__(self) -> Iterator[FirstLayer]:
        yield from (layer for layer in (self.encoder, self.readout) if layer is not None)
