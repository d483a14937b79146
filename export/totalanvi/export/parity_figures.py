"""How far serving may be from torch, and the figures that say how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from totalanvi.export.errors import ParityError
from totalanvi.serving.bundles.manifest import Parity

__all__ = ["FLOORS", "TOLERANCE", "ParityFigures", "relative_error"]

TOLERANCE = 1e-4
"""Largest relative error, in float32."""

FLOORS: Mapping[str, float] = {
    "rna": 1.0,
    "z_mean": 0.1,
    "z_scale": 0.01,
    "latent": 0.1,
    "logits": 0.1,
    "denoised": 0.01,
    "expected": 0.01,
    "foreground": 0.01,
    "log_probabilities": 0.1,
    "standardised": 0.1,
    "components": 0.1,
    "evidence": 0.1,
    "probabilities": 0.01,
    "protein": 0.01,
}
"""Values smaller than this count as this large, so that the rounding of a value near zero is not blown up: in standard
deviations of the prior (z, latent), in log-odds, in counts and in probability; of a readout, in spreads of the
reference. 1e-4 of these is far below what anybody reads off them."""


def relative_error(found: npt.NDArray[np.floating], expected: npt.NDArray[np.floating], floor: float) -> float:
    """Return the largest ``|found − expected| / max(|expected|, floor)``; infinite where either is not finite.

    Examples
    --------
    >>> relative_error(np.array([1.25, 0.001]), np.array([1.0, 0.0]), floor=0.01)
    0.25
    """
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), floor), initial=0.0))


class ParityFigures:
    """The largest error of each output of each graph over all comparisons."""

    def __init__(self) -> None:
        self._worst: dict[tuple[str, str], float] = {}
        self._n_cells = 0

    def add(self, graph: str, found: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
        """Compare outputs by name, (cells, …), of the graph or engine that is named, with what torch says."""
        for output, value in expected.items():
            error = relative_error(found[output], value.numpy(), FLOORS[output])
            self._worst[graph, output] = max(error, self._worst.get((graph, output), 0.0))
            self._n_cells = len(value)

    def within_tolerance(self) -> list[Parity]:
        """Return the figures.

        Raises
        ------
        ParityError
            When one is larger than `TOLERANCE`; names all that are.
        """
        failed = {names: error for names, error in self._worst.items() if error > TOLERANCE}
        if failed:
            listed = "; ".join(f"{graph} {output!r}: {error:.3g}" for (graph, output), error in failed.items())
            raise ParityError(
                f"Expected the exported graphs to compute what torch computes, within a relative error of "
                f"{TOLERANCE:g}; found {listed}. Nothing was exported; install the versions of torch, onnx and "
                "onnxruntime that totalanvi is tested with, and export again."
            )
        return [
            Parity(graph=graph, output=output, relative_error=error, tolerance=TOLERANCE, n_cells=self._n_cells)
            for (graph, output), error in self._worst.items()
        ]
