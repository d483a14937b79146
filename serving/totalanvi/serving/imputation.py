"""Imputed proteins: the posterior is decoded as one or several batches of the reference, and averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.errors import QueryError
from totalanvi.serving.listing import quoted
from totalanvi.serving.manifest import PROTEINS, Manifest
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.scores import Imputed

__all__ = ["Imputer", "batch_weights"]

_NOISE_ROWS = 32
"""Posterior samples decoded at a time: memory does not grow with their number."""

Floats = npt.NDArray[np.float32]
Decode = Callable[[dict[str, Floats]], list[Floats]]


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


class Imputer:
    """Decodes blocks of cells with the same options.

    Parameters
    ----------
    manifest
        Of the bundle.
    options
        How to impute.
    decode
        Computes the proteins graph: its inputs by name to its outputs in order.

    Raises
    ------
    QueryError
        See `batch_weights`.
    """

    def __init__(self, manifest: Manifest, options: MapOptions, decode: Decode) -> None:
        self._weights = batch_weights(manifest, options.impute_as)
        self._noise = _noise(options.samples, manifest.n_latent, manifest.noise_seed)
        self._decode = decode

    def impute(self, z_mean: Floats, z_scale: Floats) -> Imputed:
        """Average each protein over samples and over batches.

        Parameters
        ----------
        z_mean, z_scale
            Posterior before the latent transformation, (cells, n_latent).
        """
        n_batches, n_proteins = self._weights.shape
        total = np.zeros((len(PROTEINS.outputs), len(z_mean), n_proteins))
        for batch in np.flatnonzero(self._weights.any(axis=1)):
            code = np.zeros((1, n_batches), dtype=np.float32)
            code[0, batch] = 1
            weight = self._weights[batch]
            for start in range(0, len(self._noise), _NOISE_ROWS):
                draws = self._noise[start : start + _NOISE_ROWS]
                outputs = self._decode({"z_mean": z_mean, "z_scale": z_scale, "noise": draws, "batch": code})
                share = weight * (len(draws) / len(self._noise))
                for i, output in enumerate(outputs):
                    # Not a product with zero: what was never learned need not be finite.
                    total[i] += np.where(share > 0, output, 0) * share
        by_name = dict(zip(PROTEINS.outputs, total.astype(np.float32), strict=True))
        return Imputed(**by_name)


def _noise(samples: int, n_latent: int, seed: int) -> Floats:
    """Draw what all cells share, (samples, n_latent); zeros for one sample, which is the plug-in estimate."""
    if samples == 1:
        return np.zeros((1, n_latent), dtype=np.float32)
    return np.random.default_rng(seed).standard_normal((samples, n_latent)).astype(np.float32)
