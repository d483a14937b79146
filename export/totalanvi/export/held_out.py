"""What the production engine makes of the reference's own cells: landmarks, calibration, distances for novelty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from totalanvi.export.calibration import calibrate
from totalanvi.export.reference_cells import aligned
from totalanvi.serving.bundle import Bundle
from totalanvi.serving.cores import usable_cores
from totalanvi.serving.engine import Engine
from totalanvi.serving.manifest import CLASSIFIER, Calibration, Mode
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.neighbours import N_NEIGHBOURS, Landmarks
from totalanvi.serving.sessions import open_sessions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.data import Cells

__all__ = ["Evaluation", "evaluate", "leave_one_out_distances"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Of one bundle.

    Parameters
    ----------
    landmark_latent
        Of each landmark, mapped with its proteins where it has any, (landmarks, latent).
    calibration
        Per query mode.
    distances
        Ascending neighbour distances of held-out cells per query mode, (held out,).
    """

    landmark_latent: Floats
    calibration: dict[Mode, Calibration]
    distances: dict[Mode, Floats]


def evaluate(bundle: Bundle, sample: ReferenceSample) -> Evaluation:
    """Map the cells of the reference through the engine, as queries: with their proteins, and without.

    Parameters
    ----------
    bundle
        With its graphs in place.
    sample
        Landmarks, and held-out cells. Where no held-out cell has a query mode, its distances are those of landmarks to
        the other landmarks.
    """
    engine = Engine(bundle, provider="cpu")
    classifier = open_sessions(bundle, "cpu", usable_cores())[0][CLASSIFIER.file]

    def encode(cells: Cells, mode: Mode) -> Floats:
        return engine.run(aligned(cells, with_proteins=mode == "protein"), MapOptions(impute=False)).latent

    landmarks = encode(sample.landmarks, "protein")
    calibration: dict[Mode, Calibration] = {}
    distances: dict[Mode, Floats] = {}
    for mode in ("protein", "rna"):
        held_out = _with_mode(sample.held_out, mode)
        if len(held_out):
            latent = encode(held_out, mode)
            logits = classifier.run(list(CLASSIFIER.outputs), {"latent": latent})[0]
            calibration[mode] = calibrate(logits, held_out.label)
            found = Landmarks(landmarks, np.zeros((len(landmarks), 2))).find(latent).distance
        else:
            calibration[mode] = calibrate(np.empty((0, len(bundle.manifest.labels))), held_out.label)
            found = leave_one_out_distances(encode(sample.landmarks, mode), landmarks)
        distances[mode] = np.sort(found).astype(np.float32)
    return Evaluation(landmarks, calibration, distances)


def leave_one_out_distances(latent: Floats, landmarks: Floats) -> npt.NDArray[np.float64]:
    """Mean distance of each landmark to the nearest others.

    Parameters
    ----------
    latent
        Of the landmarks in one query mode, (landmarks, latent).
    landmarks
        Of the same landmarks as the bundle keeps them, (landmarks, latent), two or more.
    """
    distance = cdist(latent, landmarks)
    np.fill_diagonal(distance, np.inf)
    n_neighbours = min(N_NEIGHBOURS, len(landmarks) - 1)
    nearest: npt.NDArray[np.float64] = np.partition(distance, n_neighbours - 1, axis=1)[:, :n_neighbours].mean(axis=1)
    return nearest


def _with_mode(cells: Cells, mode: Mode) -> Cells:
    """Choose the cells that can be mapped in a mode: every cell can do without its proteins."""
    return cells[np.flatnonzero(cells.measured.any(axis=1))] if mode == "protein" else cells
