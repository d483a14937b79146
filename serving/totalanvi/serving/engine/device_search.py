"""What a device looks up for whole blocks: the nearest landmarks, and how far the nearest label is.

On a CPU a search rules most landmarks and labels out; a device measures all of them in the time that it takes to fetch
the answer, which spares the cores most of what they do for a cell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.graphs import DENSITY, NEAREST
from totalanvi.serving.engine.candidates import compiled_order
from totalanvi.serving.engine.graphs import Floats, Graphs
from totalanvi.serving.engine.memory import Memory, Value
from totalanvi.serving.engine.placement import Placement

__all__ = ["DeviceSearch"]


class DeviceSearch:
    """Looks up, where the bundle has the graphs for it. Safe to use from several threads.

    Parameters
    ----------
    placement
        What the bundle knows of the reference's cells.
    graphs
        Of the bundle.
    memory
        Of the device that computes them.
    """

    def __init__(self, placement: Placement, graphs: Graphs, memory: Memory) -> None:
        self._graphs = graphs
        self._landmarks: Value | None = None
        self._labels: dict[str, Value] = {}
        if NEAREST in graphs:
            compiled_order()
            self._landmarks = memory.put(placement.landmarks.latent)
        if DENSITY in graphs and placement.readout is not None:
            arrays = placement.readout.densities.without_proteins()
            self._labels = {name: memory.put(array) for name, array in zip(DENSITY.inputs[1:], arrays, strict=True)}

    def nearest(self, latent: Value, n_rows: int) -> Floats | None:
        """Return which landmarks are nearest to cells, see `NEAREST`; None where nobody can say.

        Parameters
        ----------
        latent
            Of the cells.
        n_rows
            How many.
        """
        if self._landmarks is None:
            return None
        return self._graphs.fetch(NEAREST, {"latent": latent, "landmarks": self._landmarks}, n_rows)[0]

    def looks_up_labels(self, measured: npt.NDArray[np.bool_]) -> bool:
        """Return whether it can say how far the nearest label is: where no cell has proteins.

        Parameters
        ----------
        measured
            Which proteins were measured, (cells, proteins).
        """
        return bool(self._labels) and not measured.any()

    def least(self, components: Value, n_rows: int) -> Floats:
        """Return how far the nearest label is from cells, (cells, 1), see `DENSITY`.

        Parameters
        ----------
        components
            Of the cells.
        n_rows
            How many.
        """
        return self._graphs.fetch(DENSITY, {"components": components, **self._labels}, n_rows)[0]
