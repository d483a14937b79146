"""The processes that train one model together, and which cells of a mini-batch each of them has."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from totalanvi.training.errors import ArgumentError

__all__ = ["ALONE", "Rank", "cuts", "is_first_process", "is_started_beside"]

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Rank:
    """One of the processes that train together.

    Parameters
    ----------
    number
        Which one, from 0.
    n_ranks
        How many there are.

    Examples
    --------
    >>> Rank(1, 2).part(np.array([4, 7, 9]))
    array([9])
    """

    number: int = 0
    n_ranks: int = 1

    def part(self, cells: Positions) -> Positions:
        """Cells that this process has of those that all share, (own cells,)."""
        return self.parts(cells)[self.number]

    def parts(self, cells: Positions) -> list[Positions]:
        """Cells that each process has, in the order of ranks; one may have a cell more than another."""
        return np.array_split(cells, self.n_ranks)

    def require_enough(self, what: str, n_cells: int, cure: str) -> None:
        """Refuse fewer cells than two for each process, of which one without any could not take a step.

        Raises
        ------
        ArgumentError
            Saying what has too few.
        """
        if self.n_ranks > 1 and n_cells < 2 * self.n_ranks:
            raise ArgumentError(
                f"{what}: expected 2 cells at least for each of the {self.n_ranks} processes that train together, "
                f"found {n_cells} in all; {cure}."
            )


ALONE = Rank()
"""Training in one process."""


def cuts(n_own: int, n_all: int, batch_size: int) -> Positions:
    """Where a process cuts its own cells into mini-batches: as many as one process would make of all cells.

    Parameters
    ----------
    n_own, n_all
        Cells of this process, and of all of them.
    batch_size
        Cells in a mini-batch, over all processes.

    Returns
    -------
    numpy.ndarray
        Ascending positions, (mini-batches + 1,), from 0 to ``n_own``. None is empty where there are two cells for each
        process in a mini-batch, and one at least in all.

    Examples
    --------
    >>> cuts(25, 50, 20)
    array([ 0, 10, 20, 25])
    """
    n_batches = -(-n_all // batch_size)
    return np.append(np.arange(n_batches) * batch_size * n_own // max(n_all, 1), n_own)


def is_first_process() -> bool:
    """Whether this process is the one that writes, of those that have trained together; true of one alone.

    Examples
    --------
    >>> is_first_process()
    True
    """
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def is_started_beside() -> bool:
    """Whether somebody has started this process beside another one of the same machine, before they know of each other.

    Examples
    --------
    >>> is_started_beside()
    False
    """
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "SLURM_LOCALID"))
