"""How sure a label is: temperatures, and what they make of held-out cells.

A network's probabilities are mostly too sure of themselves, and how much depends on what it was given. So each query
mode, with proteins and from RNA alone, has a temperature T of its own, ``softmax(logits / T)``, fitted to reference
cells that training did not see.

References
----------
Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import Calibration

__all__ = ["calibrate", "calibration_error", "fit_temperature", "spread_of"]

Floats = npt.NDArray[np.floating]
Codes = npt.NDArray[np.integer]

_BOUNDS = (0.05, 20.0)
_NETWORK_SPREAD, _READOUT_SPREAD = 0.3, 0.1
"""Of the logarithm of a temperature before any cell is seen: a network alone is often too sure of itself, an ensemble
with a linear part seldom, and what a few dozen cells would make of it is worse (`BENCHMARKS.md`)."""

_N_BINS = 15


def spread_of(bundle: Bundle) -> float:
    """Return the spread, see `fit_temperature`, for what gives the labels of a bundle: its network, or a readout."""
    return _NETWORK_SPREAD if bundle.readout is None else _READOUT_SPREAD


def calibrate(logits: Floats, label: Codes, spread: float = _NETWORK_SPREAD) -> Calibration:
    """Fit the temperature of one query mode, and judge its probabilities.

    Parameters
    ----------
    logits
        Of held-out cells, (cells, labels).
    label
        Known label codes, (cells,), -1 where there is none; these cells are left out.
    spread
        As of `fit_temperature`.

    Returns
    -------
    Calibration
        On ``n_cells`` labelled cells; none leaves the temperature at 1, and no figures.
    """
    known = np.asarray(label) >= 0
    logits, label = np.asarray(logits, dtype=np.float64)[known], np.asarray(label)[known]
    n_cells = len(label)
    if n_cells == 0:
        return Calibration(temperature=1.0, n_cells=0, accuracy=None, log_loss=None, expected_calibration_error=None)
    temperature = fit_temperature(logits, label, spread)
    log_probabilities = log_softmax(logits / temperature, axis=1)
    return Calibration(
        temperature=temperature,
        n_cells=n_cells,
        accuracy=float((logits.argmax(axis=1) == label).mean()),
        log_loss=-float(log_probabilities[np.arange(n_cells), label].mean()),
        expected_calibration_error=calibration_error(np.exp(log_probabilities), label),
    )


def fit_temperature(logits: Floats, label: Codes, spread: float = _NETWORK_SPREAD) -> float:
    """Find the temperature with the least log-loss.

    Parameters
    ----------
    logits
        (cells, labels).
    label
        Codes, (cells,), none of them missing.
    spread
        Of the temperature's logarithm before any cell is seen.

    Returns
    -------
    float
        From 0.05 to 20: the likeliest a posteriori, its logarithm being normal around 0 beforehand. Cells that are all
        labelled correctly would ask for certainty without end otherwise, and a few hundred say little of rare errors.
    """
    logits = np.asarray(logits, dtype=np.float64)
    cells = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        log_likelihood = log_softmax(logits / np.exp(log_temperature), axis=1)[cells, label].sum()
        return float(0.5 * (log_temperature / spread) ** 2 - log_likelihood)

    best = minimize_scalar(loss, bounds=tuple(np.log(_BOUNDS)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def calibration_error(probabilities: Floats, label: Codes) -> float:
    """Return the expected calibration error: how far confidence and accuracy lie apart, over 15 bins of confidence.

    Parameters
    ----------
    probabilities
        (cells, labels).
    label
        Codes, (cells,).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == label
    # Bins are open on the left and closed on the right: a confidence of 1 belongs to the last.
    bins = np.clip(np.ceil(confidence * _N_BINS).astype(int) - 1, 0, _N_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=_N_BINS)
    return float(np.abs(gaps).sum() / len(label))
