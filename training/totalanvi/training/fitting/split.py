"""Which cells train, which validate, which are left for a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.training.checks import as_names, as_number, require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.positions import positions_of

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
    shuffle_set_split: bool = True,
    seed: int = 0,
    external_indexing: Sequence[npt.ArrayLike | None] | None = None,
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
    shuffle_set_split
        Draw the parts at random; otherwise validation, training and test cells follow each other.
    seed
        Seed of the draw.
    external_indexing
        The parts themselves, positions of cells or masks, in the order training, validation, test; the last two may be
        left out, empty, or `None`.

    Raises
    ------
    ArgumentError
        For shares that do not fit, and for parts that overlap or leave the data.
    """
    require_flags(shuffle_set_split=shuffle_set_split)
    if external_indexing is not None:
        return _external(n_cells, external_indexing)
    train_size = _DEFAULT_TRAIN_SIZE if train_size is None else train_size
    train_size = as_number("train_size", train_size, above=0, most=1, cure="0.9 is the default")
    validation_size = 1.0 - train_size if validation_size is None else as_number("validation_size", validation_size, 0)
    if validation_size > 1.0 - train_size + 1e-9:
        raise ArgumentError(
            f"train_size and validation_size: expected 1 in all at most, found {train_size} and "
            f"{validation_size}; lower one of them."
        )
    n_train = max(1, int(np.ceil(train_size * n_cells - 1e-9)))
    n_validation = min(n_cells - n_train, int(np.floor(validation_size * n_cells + 1e-9)))
    order = np.random.default_rng(seed).permutation(n_cells) if shuffle_set_split else np.arange(n_cells)
    return Split(
        validation=np.sort(order[:n_validation]),
        train=np.sort(order[n_validation : n_validation + n_train]),
        test=np.sort(order[n_validation + n_train :]),
    )


def _external(n_cells: int, given: Sequence[npt.ArrayLike | None]) -> Split:
    given = as_names("external_indexing", given, "lists of cells")
    if not 1 <= len(given) <= 3:
        raise ArgumentError(
            f"external_indexing: expected indices of training, validation and test cells, found {len(given)} lists; "
            "leave out all but the first three."
        )
    given = [*given, None, None][:3]
    parts = [positions_of([] if part is None else part, n_cells, "external_indexing") for part in given]
    everyone = np.concatenate(parts)
    if len(parts[0]) == 0:
        raise ArgumentError("external_indexing: expected training cells in its first list, found none; add some.")
    if len(np.unique(everyone)) != len(everyone):
        raise ArgumentError(
            "external_indexing: expected each cell in one part at most, found some in several; keep one."
        )
    return Split(*parts)
