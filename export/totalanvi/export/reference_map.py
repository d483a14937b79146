"""The picture of a reference: a place in the plane for each landmark.

The method is UMAP: a fuzzy graph of nearest neighbours, laid out by attraction along its edges and repulsion from cells
drawn at random. A reference has 2,000 landmarks at most, so that the exact neighbours and a layout in whole arrays take
seconds; the well-known library compiles itself for half a minute first, in every process, and is as good on such sets.

References
----------
McInnes, Healy, Melville: UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction. arXiv 1802.03426.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

__all__ = ["map_coordinates"]

Floats = npt.NDArray[np.float64]

_N_NEIGHBOURS = 15
_FEWEST = 16
"""Fewer landmarks than this have no neighbourhoods to speak of: they are projected on their principal components."""
_N_EPOCHS = 300
_N_REPELLED = 5
"""Cells drawn at random that each end of an edge is pushed away from, each time the edge pulls."""
_A, _B = 1.577, 0.895
"""Similarity in the plane, 1 / (1 + a d^2b), fitted to: 1 up to a distance of 0.1, then falling with exp(0.1 − d)."""
_MOST_STEP = 4.0
_EXTENT = 10.0


def map_coordinates(latent: npt.NDArray[np.floating], seed: int = 0) -> npt.NDArray[np.float32]:
    """Place cells in the plane so that neighbours in the latent are neighbours there.

    Parameters
    ----------
    latent
        (cells, latent); a few thousand cells at most, since all distances are computed.
    seed
        The same arguments give the same map.

    Returns
    -------
    numpy.ndarray
        (cells, 2), centred.

    Examples
    --------
    >>> map_coordinates(np.random.default_rng(0).normal(size=(100, 8))).shape
    (100, 2)
    """
    exact: Floats = np.asarray(latent, dtype=np.float64)
    place = _principal_components(exact)
    if len(exact) >= _FEWEST:
        place = _lay_out(_fuzzy_graph(exact), place, np.random.default_rng(seed))
    return np.asarray(place - place.mean(axis=0), dtype=np.float32)


def _principal_components(latent: Floats) -> Floats:
    """Project on two components, scaled to the map's extent, (cells, 2)."""
    left, scale, _ = np.linalg.svd(latent - latent.mean(axis=0), full_matrices=False)
    place = np.zeros((len(latent), 2))
    n_components = min(2, len(scale))
    # The sign of a component is arbitrary; this one does not depend on the linear algebra library.
    components = left[:, :n_components] * scale[:n_components]
    farthest = np.abs(components).argmax(axis=0)
    components *= np.where(components[farthest, range(n_components)] < 0, -1, 1)
    place[:, :n_components] = components
    extent = np.abs(place).max()
    return _EXTENT * place / extent if extent > 0 else place


def _fuzzy_graph(latent: Floats) -> Floats:
    """Return the strength of the bond of each two cells, (cells, cells), symmetric, 0 for no neighbours."""
    distance = cdist(latent, latent)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argpartition(distance, _N_NEIGHBOURS, axis=1)[:, :_N_NEIGHBOURS]
    distance = np.take_along_axis(distance, nearest, axis=1)
    beyond = distance - distance.min(axis=1, keepdims=True)
    bonds = np.zeros((len(latent), len(latent)))
    np.put_along_axis(bonds, nearest, np.exp(-beyond / _bandwidth(beyond)), axis=1)
    return bonds + bonds.T - bonds * bonds.T


def _bandwidth(beyond: Floats) -> Floats:
    """Solve Σ exp(−d / σ) = log2(neighbours) for the σ of each cell by bisection, (cells, 1)."""
    # Where several neighbours are equally near no σ may do; the bounds keep it positive and finite.
    scale = beyond.mean(axis=1, keepdims=True) + 1e-12
    low, high = 1e-3 * scale, 1e3 * scale
    for _ in range(50):
        middle = np.sqrt(low * high)
        too_wide = np.exp(-beyond / middle).sum(axis=1, keepdims=True) > np.log2(_N_NEIGHBOURS)
        low, high = np.where(too_wide, low, middle), np.where(too_wide, middle, high)
    return np.asarray(np.sqrt(low * high))


def _lay_out(bonds: Floats, place: Floats, rng: np.random.Generator) -> Floats:
    """Move cells until strong bonds are short, (cells, 2)."""
    head, tail = np.nonzero(bonds)
    chance = bonds[head, tail] / bonds.max()
    # Cells at the very same place would never part.
    place = place + rng.normal(scale=1e-4, size=place.shape)
    for epoch in range(_N_EPOCHS):
        drawn = rng.random(len(chance)) < chance
        pulled, towards = head[drawn], tail[drawn]
        pull = _pull(place[pulled] - place[towards])
        pushed = np.repeat(pulled, _N_REPELLED)
        away_from = rng.integers(len(place), size=len(pushed))
        push = _push(place[pushed] - place[away_from])
        step = np.zeros_like(place)
        np.add.at(step, pulled, pull + push.reshape(len(pulled), _N_REPELLED, 2).sum(axis=1))
        np.add.at(step, towards, -pull)
        place = place + (1 - epoch / _N_EPOCHS) * step
    return place


def _pull(difference: Floats) -> Floats:
    """Step along the gradient of the log similarity, (pairs, 2)."""
    square = np.maximum(np.square(difference).sum(axis=1, keepdims=True), 1e-12)
    slope = -2 * _A * _B * square ** (_B - 1) / (1 + _A * square**_B)
    return np.asarray(np.clip(slope * difference, -_MOST_STEP, _MOST_STEP))


def _push(difference: Floats) -> Floats:
    """Step along the gradient of the log dissimilarity, (pairs, 2)."""
    square = np.square(difference).sum(axis=1, keepdims=True)
    slope = 2 * _B / ((1e-3 + square) * (1 + _A * square**_B))
    return np.asarray(np.clip(slope * difference, -_MOST_STEP, _MOST_STEP))
