"""Where a cell lies among the reference's: nearest landmarks, a place on the map, and how unusual the distance is.

Everything here is continuous in the latent, so that a rounding error in a cell's latent (another block size, another
device) stays a rounding error in its results: the weight of a neighbour falls to zero where the next would take its
place, and the share of held-out cells is interpolated between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.candidates import nearest_of
from totalanvi.serving.engine.compiled import compiled, given, room
from totalanvi.serving.engine.nearest import NearestSearch

__all__ = ["N_NEIGHBOURS", "Landmarks", "Neighbours", "NoveltyScale", "compiled_averages"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

N_NEIGHBOURS = 15
"""Landmarks whose mean distance tells novelty, and whose coordinates place a cell."""

_TAIL_SHARE = 0.05
_MIN_TAIL = 10
"""The farthest share of held-out cells, to which the exponential tail is fitted, and the fewest that carry a fit."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Of each cell.

    Parameters
    ----------
    distance
        Mean Euclidean distance to the nearest landmarks in the latent, (cells,), float64.
    coordinates
        Average of their coordinates, the nearer the heavier, (cells, 2), float32.
    """

    distance: npt.NDArray[np.float64]
    coordinates: npt.NDArray[np.float32]


class Landmarks:
    """A sample of reference cells to measure distances to.

    Parameters
    ----------
    latent
        Of each landmark, (landmarks, n_latent).
    coordinates
        Of each landmark on the 2-D map, (landmarks, 2).

    Attributes
    ----------
    latent : numpy.ndarray
        Of each landmark, float32.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> landmarks = Landmarks(rng.normal(size=(100, 8)), rng.normal(size=(100, 2)))
    >>> landmarks.find(rng.normal(size=(3, 8))).coordinates.shape
    (3, 2)
    """

    def __init__(self, latent: npt.NDArray[np.floating], coordinates: npt.NDArray[np.floating]) -> None:
        self.latent = np.ascontiguousarray(latent, dtype=np.float32)
        self._search = NearestSearch(self.latent)
        self._coordinates = np.ascontiguousarray(coordinates, dtype=np.float64)
        self._averages = compiled_averages()

    def find(self, latent: npt.NDArray[np.floating], candidates: npt.NDArray[np.float32] | None = None) -> Neighbours:
        """Find the nearest landmarks of each cell.

        Parameters
        ----------
        latent
            Of the query cells, (cells, n_latent).
        candidates
            Which landmarks are nearest, and maybe others, (cells, candidates), where that is known.
        """
        n_landmarks = len(self._coordinates)
        cells = np.asarray(latent, dtype=np.float32)
        n_nearest = min(N_NEIGHBOURS + 1, n_landmarks)
        if candidates is None:
            index, distance = self._search.find(cells, n_nearest)
        else:
            index, distance = nearest_of(cells, self.latent, candidates, n_nearest)
        mean, coordinates = np.empty(len(cells)), np.empty((len(cells), 2), dtype=np.float32)
        self._averages(index, distance, self._coordinates, mean, coordinates)
        return Neighbours(mean, coordinates)


def compiled_averages() -> Callable[..., None]:
    """Return the averages over neighbours, compiled."""
    return compiled(
        _averages,
        given("int64", 2),
        given("float64", 2),
        given("float64", 2),
        room("float64", 1),
        room("float32", 2),
    )


def _averages(
    index: npt.NDArray[np.int64], distance: Doubles, places: Doubles, mean: Doubles, coordinates: Floats
) -> None:
    """Fill ``mean`` and ``coordinates``; compiled by numba.

    A neighbour weighs 1 − (d / d of the next neighbour)².
    """
    n_neighbours = N_NEIGHBOURS if distance.shape[1] > N_NEIGHBOURS else distance.shape[1]
    for row in range(distance.shape[0]):
        farthest = distance[row, -1]
        total = weights = across = up = 0.0
        for k in range(n_neighbours):
            near = distance[row, k]
            total += near
            weights += farthest * farthest - near * near
        for k in range(n_neighbours):
            near, landmark = distance[row, k], index[row, k]
            weight = farthest * farthest - near * near
            # Where all are equally far (or all at the very same place) no weight is left: then all count the same.
            weight = weight / weights if weights > 0 else 1 / n_neighbours
            across += weight * places[landmark, 0]
            up += weight * places[landmark, 1]
        mean[row] = total / n_neighbours
        coordinates[row, 0] = across
        coordinates[row, 1] = up


class NoveltyScale:
    """Turns a neighbour distance into novelty, by comparison with held-out reference cells.

    Novelty is 1 − p, with p the share of held-out cells at least as far. Beyond their 95 % quantile held-out cells
    become few; there p follows an exponential fitted to those there are (a peaks-over-threshold tail), so that cells
    farther than all of them stay in order.

    Parameters
    ----------
    distances
        Neighbour distances of held-out reference cells, ascending, (held_out,).

    Examples
    --------
    >>> scale = NoveltyScale(np.linspace(1, 2, 101))
    >>> [round(float(x), 3) for x in scale.novelty(np.array([0.5, 1.5, 3.0]))]
    [0.0, 0.495, 1.0]
    """

    def __init__(self, distances: npt.NDArray[np.floating]) -> None:
        distances = np.sort(np.asarray(distances, dtype=np.float64))
        self._knots, first = np.unique(distances, return_index=True)
        # At a held-out distance itself: that cell and all behind it are at least as far.
        self._share = (distances.size - first) / distances.size
        n_tail = min(distances.size, max(_MIN_TAIL, round(_TAIL_SHARE * distances.size)))
        self._start = distances[-n_tail]
        self._share_at_start = float(np.interp(self._start, self._knots, self._share))
        excess = distances[distances > self._start] - self._start
        # Equal distances say nothing about the tail's scale: fall back on that of the distances themselves.
        self._scale = float(excess.mean()) if excess.size else 0.1 * float(distances.mean()) or 1.0

    def score_at(self, share: float) -> float:
        """Return the score that this share of cells like the held-out ones exceed; infinite for none of them.

        Parameters
        ----------
        share
            From 0 to 1.
        """
        if share <= 0:
            return float("inf")
        if share < self._share_at_start:
            return float(self._start + self._scale * np.log(self._share_at_start / share))
        return float(np.interp(share, self._share[::-1], self._knots[::-1]))

    def novelty(self, distance: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return the novelty of cells at these distances, in [0, 1], (cells,)."""
        distance = np.asarray(distance, dtype=np.float64)
        bulk = np.interp(distance, self._knots, self._share)
        tail = self._share_at_start * np.exp(-np.maximum(distance - self._start, 0) / self._scale)
        share = np.where(distance > self._start, tail, bulk)
        return np.asarray(1 - share, dtype=np.float32)
