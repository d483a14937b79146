"""As what proteins are decoded: as which batches of the reference, from which draws, and what each counts for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.manifest import Manifest
from totalanvi.serving.errors import QueryError
from totalanvi.serving.listing import quoted

__all__ = ["Decoding", "batch_weights", "decodings"]

_NOISE_ROWS = 32
"""Posterior samples decoded at a time: memory does not grow with their number."""


@dataclass(frozen=True, eq=False)
class Decoding:
    """One of the decodings that proteins are an average of.

    Parameters
    ----------
    batch
        Of the reference, which cells are decoded as.
    code
        The same as one-hot, (1, batches).
    noise
        Standard normal draws that all cells share, (samples, n_latent).
    weight
        Of each protein, (proteins,); those of all decodings sum to 1.
    """

    batch: int
    code: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float64]


def decodings(manifest: Manifest, samples: int, weights: npt.NDArray[np.float64]) -> list[Decoding]:
    """Return what proteins are an average of.

    Parameters
    ----------
    manifest
        Of the bundle.
    samples
        Posterior samples; 1 is the plug-in estimate.
    weights
        See `batch_weights`.
    """
    noise = _noise(samples, manifest.n_latent, manifest.noise_seed)
    found = []
    for batch in np.flatnonzero(weights.any(axis=1)).tolist():
        code = np.zeros((1, len(weights)), dtype=np.float32)
        code[0, batch] = 1
        for start in range(0, len(noise), _NOISE_ROWS):
            draws = noise[start : start + _NOISE_ROWS]
            found.append(Decoding(batch, code, draws, weights[batch] * (len(draws) / len(noise))))
    return found


def batch_weights(manifest: Manifest, impute_as: str | None) -> npt.NDArray[np.float64]:
    """Return what each batch counts for in each protein, (batches, proteins); the weights of a protein sum to 1.

    What a batch did not measure, the model never learned to decode for it: it counts for nothing there. So a protein
    that the batch `impute_as` did not measure is the average of those that did, as every protein is with None.

    Raises
    ------
    QueryError
        When there is no such batch, or it measured no protein.
    """
    measured = np.array(manifest.protein_batches, dtype=bool)
    weights: npt.NDArray[np.float64] = measured / measured.sum(axis=0)
    if impute_as is None:
        return weights
    able = [name for name, panel in zip(manifest.batches, measured, strict=True) if panel.any()]
    if impute_as not in able:
        raise QueryError(
            f"Expected to impute as a batch of {manifest.name!r} that measured proteins, {quoted(able)}; found "
            f"{impute_as!r}. Name one of these, or none to average over those that measured a protein (--impute-as)."
        )
    batch = manifest.batches.index(impute_as)
    weights[:, measured[batch]] = 0
    weights[batch, measured[batch]] = 1
    return weights


def _noise(samples: int, n_latent: int, seed: int) -> npt.NDArray[np.float32]:
    """Draw what all cells share, (samples, n_latent); zeros for one sample, which is the plug-in estimate."""
    if samples == 1:
        return np.zeros((1, n_latent), dtype=np.float32)
    return np.random.default_rng(seed).standard_normal((samples, n_latent)).astype(np.float32)
