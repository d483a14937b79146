"""What lower precision costs: the same cells through the float32 graphs and through those that will be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.export.calibration import calibrate, spread_of
from totalanvi.export.held_out import landmark_latent, leave_one_out_distances
from totalanvi.export.parity_figures import FLOORS
from totalanvi.export.query_modes import in_mode
from totalanvi.export.reference_cells import aligned
from totalanvi.export.reliability import judge_reliability
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.confidence_figures import ProteinReliability
from totalanvi.serving.bundles.manifest import Calibration, FileRecord
from totalanvi.serving.bundles.modes import MODES, Mode
from totalanvi.serving.bundles.precision import Change, Lowered, ModeCost, PrecisionCost
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.scores import Scores
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample

__all__ = ["Measured", "cost_of", "landmark_distance", "measure", "with_sizes"]

Floats = npt.NDArray[np.floating]

_LEAST_DISTANCE = 1e-6
"""Between landmarks, should they all be one."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What one bundle makes of the cells that precision is judged by.

    Parameters
    ----------
    scores, calibration
        By query mode.
    imputed
        Counts expected from RNA alone, (cells, proteins).
    reliability
        How they correlate with measured ones, (proteins,).
    """

    scores: Mapping[Mode, Scores]
    calibration: Mapping[Mode, Calibration]
    imputed: Floats
    reliability: list[ProteinReliability]


def measure(bundle: Bundle, sample: ReferenceSample) -> Measured:
    """Map held-out cells, or landmarks where there are none, as queries of each mode.

    Parameters
    ----------
    bundle
        With its graphs in place; what is calibrated is not looked at.
    sample
        Of the reference.
    """
    engine, manifest = Engine(bundle, provider="cpu"), bundle.manifest
    cells = sample.held_out_or_landmarks
    spread = spread_of(bundle)
    scores, calibration = {}, {}
    for mode in MODES:
        rows, query = in_mode(cells, mode, manifest.protein_batches)
        scores[mode] = engine.score(query, MapOptions(impute=False))
        calibration[mode] = calibrate(scores[mode].logits, cells.label[rows], spread)
    imputed = engine.score(aligned(cells, with_proteins=False), MapOptions()).imputed
    assert imputed is not None
    reliability = judge_reliability(cells.protein, cells.measured, imputed)
    return Measured(scores, calibration, imputed.expected, reliability)


def landmark_distance(bundle: Bundle, sample: ReferenceSample) -> float:
    """Return how far a landmark is from its nearest others in the latent, the median: what moves are a share of.

    Parameters
    ----------
    bundle, sample
        As for `measure`.
    """
    latent = landmark_latent(bundle, sample.landmarks)
    distances = leave_one_out_distances(latent, latent, np.arange(len(latent)))
    return max(float(np.median(distances)), _LEAST_DISTANCE)


def cost_of(precision: Lowered, before: Measured, after: Measured, *, near: float, held_out: bool) -> PrecisionCost:
    """Compare two bundles of one checkpoint; `with_sizes` adds how large they are.

    Parameters
    ----------
    precision
        Of the second.
    before, after
        What `measure` says of the one in float32, and of the other.
    near
        `landmark_distance` of the one in float32.
    held_out
        Whether training did not see the cells.
    """
    return PrecisionCost(
        precision=precision,
        held_out=held_out,
        modes={mode: _mode_cost(mode, before, after, near) for mode in MODES},
        correlation=_change(*(_mean_correlation(found.reliability) for found in (before, after))),
        count_change=float(np.median(_relative_change(before.imputed, after.imputed))),
        bytes_before=0,
        bytes_after=0,
    )


def with_sizes(cost: PrecisionCost, before: Mapping[str, FileRecord], after: Mapping[str, FileRecord]) -> PrecisionCost:
    """Say how large the bundle is, and would have been.

    Parameters
    ----------
    cost
        What else it costs.
    before
        Graphs and first layers in float32.
    after
        All files, but the manifest and pages. The others, float32 would not have made another size of.
    """
    n_bytes = sum(record.bytes for record in after.values())
    weights = sum(record.bytes for name, record in after.items() if name in before)
    return cost.model_copy(
        update={
            "bytes_before": n_bytes - weights + sum(record.bytes for record in before.values()),
            "bytes_after": n_bytes,
        }
    )


def _mode_cost(mode: Mode, before: Measured, after: Measured, near: float) -> ModeCost:
    old, new = before.scores[mode], after.scores[mode]
    n_cells = len(old.logits)
    moved = np.linalg.norm(new.latent.astype(np.float64) - old.latent, axis=1) / near
    of_labels = (before.calibration[mode], after.calibration[mode])
    return ModeCost(
        n_cells=n_cells,
        changed=float(np.mean(old.logits.argmax(axis=1) != new.logits.argmax(axis=1))) if n_cells else 0.0,
        accuracy=_change(*(found.accuracy for found in of_labels)),
        log_loss=_change(*(found.log_loss for found in of_labels)),
        latent_mean=float(moved.mean()) if n_cells else 0.0,
        latent_largest=float(moved.max(initial=0.0)),
    )


def _change(before: float | None, after: float | None) -> Change | None:
    return None if before is None or after is None else Change(before=before, after=after)


def _mean_correlation(reliability: list[ProteinReliability]) -> float | None:
    known = [found.pearson for found in reliability if found.pearson is not None]
    return sum(known) / len(known) if known else None


def _relative_change(before: Floats, after: Floats) -> Floats:
    floor = FLOORS["protein"]
    change: Floats = np.abs(np.asarray(after, np.float64) - before) / np.maximum(before, floor)
    return change
