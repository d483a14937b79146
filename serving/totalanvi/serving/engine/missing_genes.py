"""Genes that a query lacks: filled in from those that it has, as the reference's cells vary together.

A readout sees genes through their principal components and through regressions, all of them linear. With B the
loadings of the components, Λ their variances and σ² what varies besides in a gene, the genes that are present, less
their means, x_p, put the components at ``c = (B_pᵀ B_p / σ² + Λ⁻¹)⁻¹ B_pᵀ x_p / σ²``, and the genes that are absent at
``B_a c``. All of it is linear in the components as they come out where absent genes count as average: one small matrix
for a query.

References
----------
Tipping, Bishop: Probabilistic principal component analysis. JRSS B 61 (1999).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.first_layer import ReadoutFirst
from totalanvi.serving.bundles.readout_arrays import ReadoutArrays

__all__ = ["MissingGenes"]


class MissingGenes:
    """What a readout's projection lacks where genes do.

    Parameters
    ----------
    projection
        Of the bundle; its first columns are the components.
    arrays
        Of the same readout.
    """

    def __init__(self, projection: ReadoutFirst, arrays: ReadoutArrays) -> None:
        self._weight = projection.weight
        components = self._weight[:, : arrays.n_components].astype(np.float64)
        # Components are orthogonal and have one scale: c = Bᵀ x / scale² for loadings B = scale² · weight.
        self._squared_scale = 1 / np.square(components[:, 0]).sum()
        self._loadings = components * self._squared_scale
        self._precision = np.diag(1 / arrays.component_variance.astype(np.float64))
        self._noise = float(arrays.gene_noise[0])

    @classmethod
    def of(cls, bundle: Bundle) -> MissingGenes | None:
        """Return those of a bundle; None where it has no readout."""
        projection = bundle.first_layers.readout
        return None if projection is None or bundle.readout is None else cls(projection, bundle.readout)

    def fill(self, present: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float32]:
        """Return what to add to projected cells, (components, columns): ``projected + components @ fill``.

        Parameters
        ----------
        present
            Which genes the query has, (genes,); None for all.

        Examples
        --------
        >>> MissingGenes(projection, arrays).fill(None).any()  # doctest: +SKIP
        False
        """
        if present is None or present.all():
            return np.zeros((self._loadings.shape[1], self._weight.shape[1]), dtype=np.float32)
        here = self._loadings[present]
        posterior = here.T @ here / self._noise + self._precision
        lacking = self._loadings[~present].T @ self._weight[~present].astype(np.float64)
        fill = np.linalg.solve(posterior, lacking) * (self._squared_scale / self._noise)
        return np.asarray(fill, dtype=np.float32)
