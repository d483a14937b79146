"""What the production engine makes of the reference's own cells: landmarks, calibration in each query mode, imputation.

Everything is measured on the scores that the engine serves (`totalanvi.serving.engine.scores`), whatever computes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from totalanvi.export.calibration import calibrate, spread_of
from totalanvi.export.held_out_figures import HeldOutFigures, held_out_figures
from totalanvi.export.interval_fit import fit_intervals
from totalanvi.export.label_confidence import judge_confidence, own_label_scores
from totalanvi.export.query_modes import in_mode
from totalanvi.export.reference_cells import aligned
from totalanvi.export.reliability import judge_reliability
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.calibration_arrays import CalibrationArrays
from totalanvi.serving.bundles.confidence_figures import ModeConfidence, ProteinReliability
from totalanvi.serving.bundles.manifest import Calibration
from totalanvi.serving.bundles.modes import MODES, Mode
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.neighbours import N_NEIGHBOURS
from totalanvi.serving.engine.scores import Imputed
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.data import Cells

__all__ = ["Evaluation", "evaluate", "landmark_latent", "leave_one_out_distances"]

Floats = npt.NDArray[np.float32]

_LABELS_ONLY = MapOptions(impute=False)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Of one bundle.

    Parameters
    ----------
    calibration, confidence
        Figures of each query mode.
    reliability
        Figures of each protein, (proteins,).
    arrays
        What certainty is read from when the bundle is served.
    figures
        What a report shows of each query mode.
    """

    calibration: dict[Mode, Calibration]
    confidence: dict[Mode, ModeConfidence]
    reliability: list[ProteinReliability]
    arrays: CalibrationArrays
    figures: dict[Mode, HeldOutFigures]


def landmark_latent(bundle: Bundle, landmarks: Cells) -> Floats:
    """Map landmarks, with their proteins where they have any, (landmarks, latent).

    Parameters
    ----------
    bundle
        With its graphs in place; what else it holds is not looked at.
    landmarks
        Cells of the reference.
    """
    return Engine(bundle, provider="cpu").score(aligned(landmarks), _LABELS_ONLY).latent


def evaluate(bundle: Bundle, sample: ReferenceSample) -> Evaluation:
    """Map held-out cells of the reference through the engine, as queries of each mode.

    Parameters
    ----------
    bundle
        With its graphs and its landmarks in place.
    sample
        Landmarks, and held-out cells. Where no held-out cell has a query mode, its novelty scores are those of
        landmarks: their distances to the other landmarks or, with a readout, what it makes of them.
    """
    engine = Engine(bundle, provider="cpu")
    spread = spread_of(bundle)
    calibration: dict[Mode, Calibration] = {}
    confidence: dict[Mode, ModeConfidence] = {}
    arrays: dict[str, Floats] = {}
    figures: dict[Mode, HeldOutFigures] = {}
    for mode in MODES:
        rows, query = in_mode(sample.held_out, mode, bundle.manifest.protein_batches)
        label = sample.held_out.label[rows]
        scores = engine.score(query, _LABELS_ONLY)
        n_cells = len(np.unique(rows[label >= 0]))
        calibration[mode] = calibrate(scores.logits, label, spread).model_copy(update={"n_cells": n_cells})
        calibrated = scores.logits / calibration[mode].temperature
        novelty = np.sort(scores.novelty if len(rows) else _stand_in(engine, sample.landmarks, mode))
        confidence[mode] = judge_confidence(calibrated, label, rows, novelty, _LABELS_ONLY)
        figures[mode] = held_out_figures(calibrated, label, rows)
        arrays[f"novelty_{mode}"] = novelty.astype(np.float32)
        arrays[f"conformal_{mode}"] = own_label_scores(calibrated, label)
    average, own_batch = _impute(engine, sample.held_out)
    counts, measured = sample.held_out.protein, sample.held_out.measured
    intervals = [fit_intervals(counts, measured, expected) for expected in (average.expected, own_batch)]
    return Evaluation(
        calibration,
        confidence,
        judge_reliability(counts, measured, average),
        CalibrationArrays(
            **arrays,
            interval_knots=np.stack([each.knots for each in intervals]).astype(np.float32),
            interval_low=np.stack([each.low for each in intervals]).astype(np.float32),
            interval_high=np.stack([each.high for each in intervals]).astype(np.float32),
        ),
        figures,
    )


def leave_one_out_distances(latent: Floats, landmarks: Floats, own: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Mean distance of landmarks to the nearest others.

    Parameters
    ----------
    latent
        Of some landmarks in one query mode, (cells, latent).
    landmarks
        Of all landmarks as the bundle keeps them, (landmarks, latent), two or more.
    own
        Which landmarks they are, (cells,).
    """
    distance = cdist(latent, landmarks)
    distance[np.arange(len(own)), own] = np.inf
    n_neighbours = min(N_NEIGHBOURS, len(landmarks) - 1)
    nearest: npt.NDArray[np.float64] = np.partition(distance, n_neighbours - 1, axis=1)[:, :n_neighbours].mean(axis=1)
    return nearest


def _stand_in(engine: Engine, landmarks: Cells, mode: Mode) -> npt.NDArray[np.float64]:
    """Score the novelty of landmarks, from RNA alone where none has the mode either.

    With a readout, each has itself among the landmarks, and may look less novel than a query's cell would.
    """
    bundle = engine.bundle
    rows, query = in_mode(landmarks, mode, bundle.manifest.protein_batches)
    if not len(rows):
        rows, query = in_mode(landmarks, "rna", bundle.manifest.protein_batches)
    if bundle.readout is not None:
        return engine.score(query, _LABELS_ONLY).novelty
    return leave_one_out_distances(engine.score(query, _LABELS_ONLY).latent, bundle.reference.latent, rows)


def _impute(engine: Engine, cells: Cells) -> tuple[Imputed, Floats]:
    """Impute cells from RNA alone: as the average of batches, and what is expected as each cell's own batch."""
    manifest = engine.bundle.manifest
    _, query = in_mode(cells, "rna", manifest.protein_batches)
    average = engine.score(query, MapOptions()).imputed
    assert average is not None
    own_batch = average.expected.copy()
    for code, (name, panel) in enumerate(zip(manifest.batches, manifest.protein_batches, strict=True)):
        rows = np.flatnonzero(cells.batch == code)
        # With a single batch, its own is the average.
        if len(rows) and any(panel) and len(manifest.batches) > 1:
            imputed = engine.score(query.rows(rows), MapOptions(impute_as=name)).imputed
            assert imputed is not None
            own_batch[rows] = imputed.expected
    return average, own_batch
