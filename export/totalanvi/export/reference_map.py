"""The picture of a reference: a place in the plane for each landmark.

umap-learn compiles itself for half a minute of CPU in every process. An export happens once a reference, so that is
paid, rather than for a layout of our own (one was tried: a fifth of the time, the same trustworthiness, 0.93).

References
----------
McInnes, Healy, Melville: UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction. arXiv 1802.03426.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

__all__ = ["map_coordinates"]

_N_NEIGHBOURS = 15
_FEWEST = 16
"""Fewer landmarks than this have no neighbourhoods to speak of: they are projected on their principal components."""
_EXTENT = 10.0
_JITTER = 1e-4
_SEED = 0


def map_coordinates(latent: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Place cells in the plane so that neighbours in the latent are neighbours there.

    Parameters
    ----------
    latent
        (cells, latent); a few thousand cells. The same latents give the same map.

    Returns
    -------
    numpy.ndarray
        (cells, 2), centred.

    Examples
    --------
    >>> map_coordinates(np.random.default_rng(0).normal(size=(100, 8))).shape
    (100, 2)
    """
    exact = np.asarray(latent, dtype=np.float64)
    place = _principal_components(exact)
    if len(exact) >= _FEWEST:
        place = _umap(exact, place)
    return np.asarray(place - place.mean(axis=0), dtype=np.float32)


def _principal_components(latent: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Project on two components, scaled to the map's extent, (cells, 2)."""
    place = np.zeros((len(latent), 2))
    n_components = min(2, *latent.shape)
    if np.ptp(latent, axis=0).any():
        place[:, :n_components] = PCA(n_components, svd_solver="full").fit_transform(latent)
    extent = np.abs(place).max()
    return _EXTENT * place / extent if extent > 0 else place


def _umap(latent: npt.NDArray[np.float64], start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import: what TensorFlow would add
        from umap import UMAP

    # Cells at the very same place would never part, and their distances of zero leave no scale.
    rng = np.random.default_rng(_SEED)
    start = start + rng.normal(scale=_JITTER, size=start.shape)
    apart = latent + rng.normal(scale=_JITTER, size=latent.shape)
    layout = UMAP(n_neighbors=_N_NEIGHBOURS, init=start.astype(np.float32), random_state=_SEED, n_jobs=1)
    return np.asarray(layout.fit_transform(apart), dtype=np.float64)
