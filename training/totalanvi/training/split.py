"""Which cells train, which validate, which are left for a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import ArgumentError

__all__ = ["Split", "split_cells"]

_DEFAULT_TRAIN_SIZE = 0.9


@dataclass(frozen=True)
class Split:
    """Positions of the cells of each part."""

    train: npt.NDArray[np.intp]
    validation: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]


def split_cells(
    n_cells: int,
    train_size: float | None = None,
    validation_size: float | None = None,
    shuffle: bool = True,
    seed: int = 0,
    external: Sequence[npt.NDArray[np.intp]] | None = None,
) -> Split:
    """Split cells into training, validation and test parts.

    Parameters
    ----------
    n_cells
        Number of cells.
    train_size
        Share that trains, 0.9 by default.
    validation_size
        Share that validates, all the rest by default; what is left over is the test part.
    shuffle
        Draw the parts at random; otherwise validation, training and test cells follow each other.
    seed
        Seed of the draw.
    external
        The parts themselves, in the order training, validation, test; the last two may be left out.

    Raises
    ------
    ArgumentError
        For shares that do not fit, and for parts that overlap or leave the data.
    """
    if external is not None:
        return _external(n_cells, external)
    train_size = _DEFAULT_TRAIN_SIZE if train_size is None else train_size
    if not 0.0 < train_size <= 1.0:
        raise ArgumentError(f"train_size must lie in (0, 1], found {train_size}.")
    validation_size = 1.0 - train_size if validation_size is None else validation_size
    if not 0.0 <= validation_size <= 1.0 - train_size + 1e-9:
        raise ArgumentError(
            f"train_size and validation_size must add up to 1 at most, found {train_size} and {validation_size}."
        )
    n_train = max(1, int(np.ceil(train_size * n_cells)))
    n_validation = min(n_cells - n_train, int(np.floor(validation_size * n_cells + 1e-9)))
    order = np.random.default_rng(seed).permutation(n_cells) if shuffle else np.arange(n_cells)
    return Split(
        validation=np.sort(order[:n_validation]),
        train=np.sort(order[n_validation : n_validation + n_train]),
        test=np.sort(order[n_validation + n_train :]),
    )


def _external(n_cells: int, external: Sequence[npt.NDArray[np.intp]]) -> Split:
    if not 1 <= len(external) <= 3:
        raise ArgumentError(
            f"external_indexing takes training, validation and test indices, found {len(external)} lists."
        )
    parts = [np.asarray(part, dtype=np.intp) for part in external] + [np.empty(0, np.intp)] * (3 - len(external))
    everyone = np.concatenate(parts)
    if len(parts[0]) == 0:
        raise ArgumentError("external_indexing needs training cells, found none in its first list.")
    if len(np.unique(everyone)) != len(everyone):
        raise ArgumentError("external_indexing must put a cell into one part at most, found cells in several.")
    outside = everyone[(everyone < 0) | (everyone >= n_cells)]
    if len(outside):
        raise ArgumentError(f"external_indexing must lie within the {n_cells} cells, found {outside[0]}.")
    return Split(*parts)
