"""From what the graphs say of cells to their scores: places among the reference's cells, strangeness, counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.neighbours import Landmarks
from totalanvi.serving.engine.readout import N_MEASURES, Readings, Readout
from totalanvi.serving.engine.scores import Imputed, Scores

__all__ = ["Computed", "Placement"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Computed:
    """What the graphs say of cells of a query that follow one another.

    Parameters
    ----------
    rows
        Which cells.
    latent, logits
        (cells, n_latent) and (cells, labels), float32. A readout's logits take the place of the classifier's, which
        then has nothing to say.
    readings
        None without a readout.
    imputed
        None when proteins were not asked for.
    nearest
        Landmarks that `totalanvi.serving.engine.device_search.DeviceSearch` found, (cells, found), if it looked.
    """

    rows: slice
    latent: Floats
    logits: Floats
    readings: Readings | None
    imputed: Imputed | None
    nearest: Floats | None = None

    def trimmed(self) -> Computed:
        """Leave out what is behind the cells, where a block was padded."""
        cells = slice(0, self.rows.stop - self.rows.start)
        readings = None if self.readings is None else self.readings.rows(cells)
        return Computed(
            self.rows,
            self.latent[cells],
            self.logits[cells] if readings is None else readings.log_probabilities,
            readings,
            None if self.imputed is None else self.imputed.rows(cells),
            None if self.nearest is None else self.nearest[cells],
        )

    def results(self) -> dict[str, Floats]:
        """Return what the rest follows from, by name."""
        read = {} if self.readings is None else self.readings.arrays()
        return {"latent": self.latent, "logits": self.logits} | {
            name: array for name, array in read.items() if array is not self.logits
        }


class Placement:
    """What a bundle knows of the reference's own cells.

    Parameters
    ----------
    bundle
        The verified bundle.

    Attributes
    ----------
    landmarks : Landmarks
        Of the reference.
    readout : Readout or None
        Of the bundle.
    n_measures : int
        Measures of strangeness.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.landmarks = Landmarks(bundle.reference.latent, bundle.reference.coordinates)
        self.readout = None if bundle.readout is None else Readout(bundle.readout)
        self.n_measures = 1 if self.readout is None else N_MEASURES

    def place(self, computed: Computed, cells: AlignedCells, weights: npt.NDArray[np.float64] | None = None) -> Scores:
        """Score cells.

        Parameters
        ----------
        computed
            What the graphs say of them.
        cells
            The query that they belong to.
        weights
            What each batch counts for in each protein, where proteins are imputed: see
            `totalanvi.serving.engine.decodings.batch_weights`.
        """
        neighbours, imputed = self.landmarks.find(computed.latent, computed.nearest), computed.imputed
        novelty, strangeness = neighbours.distance, neighbours.distance[:, None]
        if self.readout is not None and computed.readings is not None:
            measured = cells.measured[computed.rows]
            strangeness = self.readout.strangeness(
                computed.readings, cells.protein[computed.rows], measured, neighbours.distance
            )
            novelty = self.readout.novelty(strangeness)
            if imputed is not None and imputed.bounds is None and weights is not None:
                imputed = self.readout.impute(imputed, computed.readings, measured, weights)
        return Scores(computed.latent, neighbours.coordinates, computed.logits, strangeness, novelty, imputed)
