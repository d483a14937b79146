"""Imputed proteins: the posterior is decoded as one or several batches of the reference, and averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.manifest import PROTEINS, Manifest
from totalanvi.serving.engine.memory import Value, on_host
from totalanvi.serving.engine.scores import Imputed
from totalanvi.serving.errors import QueryError
from totalanvi.serving.listing import quoted
from totalanvi.serving.mapped import MapOptions

__all__ = ["Imputer", "batch_weights"]

_NOISE_ROWS = 32
"""Posterior samples decoded at a time: memory does not grow with their number."""

_FEWEST_CELLS = 8

_CELLS_IN_CACHE = 1024
"""Cells that are added up at a time."""

Floats = npt.NDArray[np.float32]
Decode = Callable[[dict[str, Value], int], list[Floats]]


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
        Computes the proteins graph: its inputs by name, and for how many cells, to its outputs in order.
    most_rows
        Cells times samples that are decoded at a time, about; None for a whole block.

    Attributes
    ----------
    weights : numpy.ndarray
        See `batch_weights`.

    Raises
    ------
    QueryError
        See `batch_weights`.
    """

    def __init__(self, manifest: Manifest, options: MapOptions, decode: Decode, most_rows: int | None = None) -> None:
        self.weights = batch_weights(manifest, options.impute_as)
        self._noise = _noise(options.samples, manifest.n_latent, manifest.noise_seed)
        self._decode = decode
        n_samples = min(len(self._noise), _NOISE_ROWS)
        # A power of two, which whole blocks are multiples of.
        self._most_cells = (
            None if most_rows is None else max(_FEWEST_CELLS, 1 << (most_rows // n_samples).bit_length() - 1)
        )

    def impute(self, z_mean: Value, z_scale: Value, n_cells: int) -> Imputed:
        """Average each protein over samples and over batches.

        Parameters
        ----------
        z_mean, z_scale
            Posterior before the latent transformation, (cells, n_latent), of a cell or more.
        n_cells
            How many.
        """
        if self._most_cells is None or n_cells <= self._most_cells:
            averages = self._average(z_mean, z_scale, n_cells)
        else:
            mean, scale = on_host(z_mean), on_host(z_scale)
            steps = [slice(start, start + self._most_cells) for start in range(0, n_cells, self._most_cells)]
            parts = zip(*(self._average(mean[s], scale[s], len(mean[s])) for s in steps), strict=True)
            averages = [np.concatenate(of_output) for of_output in parts]
        return Imputed(**dict(zip(PROTEINS.outputs, averages, strict=True)))

    def _average(self, z_mean: Value, z_scale: Value, n_cells: int) -> list[Floats]:
        """Return the averages of each output, (cells, proteins)."""
        n_proteins = self.weights.shape[1]
        batches = np.flatnonzero(self.weights.any(axis=1)).tolist()
        if len(batches) == 1 and self.weights[batches[0]].all() and len(self._noise) <= _NOISE_ROWS:
            # Nothing to average: each weight is 1.
            return self._decoded(z_mean, z_scale, self._noise, batches[0], n_cells)
        total = np.zeros((len(PROTEINS.outputs), n_cells, n_proteins))
        for batch in batches:
            # Not a product with zero: what was never learned need not be finite.
            learned = np.flatnonzero(self.weights[batch])
            for start in range(0, len(self._noise), _NOISE_ROWS):
                draws = self._noise[start : start + _NOISE_ROWS]
                share = self.weights[batch, learned] * (len(draws) / len(self._noise))
                outputs = self._decoded(z_mean, z_scale, draws, batch, n_cells)
                for of_output, output in zip(total, outputs, strict=True):
                    for start_row in range(0, n_cells, _CELLS_IN_CACHE):
                        rows = slice(start_row, start_row + _CELLS_IN_CACHE)
                        if len(learned) == n_proteins:
                            of_output[rows] += output[rows] * share
                        else:
                            of_output[rows, learned] += output[rows, learned] * share
        return list(total.astype(np.float32))

    def _decoded(self, z_mean: Value, z_scale: Value, noise: Floats, batch: int, n_cells: int) -> list[Floats]:
        code = np.zeros((1, len(self.weights)), dtype=np.float32)
        code[0, batch] = 1
        return self._decode({"z_mean": z_mean, "z_scale": z_scale, "noise": noise, "batch": code}, n_cells)


def _noise(samples: int, n_latent: int, seed: int) -> Floats:
    """Draw what all cells share, (samples, n_latent); zeros for one sample, which is the plug-in estimate."""
    if samples == 1:
        return np.zeros((1, n_latent), dtype=np.float32)
    return np.random.default_rng(seed).standard_normal((samples, n_latent)).astype(np.float32)
