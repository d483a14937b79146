"""The reference's own cells as queries of each mode: with their panel, with a part of it, from RNA alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from totalanvi.export.reference_cells import aligned
from totalanvi.serving.bundles.modes import MODES, Mode, modes_of
from totalanvi.serving.cells import AlignedCells
from totalanvi.training.data import Cells

__all__ = ["N_PARTS", "in_mode"]

N_PARTS = 4
"""Parts of its panel that each cell is seen with: what is lacking matters more than how much, so several are tried."""

_HIDDEN_SHARES = (0.25, 0.5, 0.75)
"""Of a cell's panel, at random: real queries lack anything from a few proteins to most."""

_SEED = 0


def in_mode(
    cells: Cells, mode: Mode, protein_batches: Sequence[Sequence[bool]]
) -> tuple[npt.NDArray[np.intp], AlignedCells]:
    """Present cells as serving would see them in a query mode.

    Parameters
    ----------
    cells
        Of the reference.
    mode
        For "part", a random part of each cell's proteins is hidden: a quarter, half or three quarters. Each cell is
        seen `N_PARTS` times, with different parts; the same cells are seen with the same ones.
    protein_batches
        Which batch measured which protein, (batches, proteins).

    Returns
    -------
    rows, query
        Which of the cells can be seen in that mode, some of them several times, and these cells.
    """
    seen = np.tile(np.arange(len(cells)), N_PARTS if mode == "part" else 1)
    measured = cells.measured[seen]
    if mode == "rna":
        measured = np.zeros_like(measured)
    elif mode == "part":
        measured = measured & ~_hidden(measured, np.random.default_rng(_SEED))
    rows = np.flatnonzero(modes_of(measured, protein_batches) == MODES.index(mode))
    return seen[rows], aligned(replace(cells[seen[rows]], measured=measured[rows]))


def _hidden(measured: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Choose what to hide of each cell's proteins, (cells, proteins): one at least, and never all."""
    sizes = measured.sum(axis=1)
    shares = rng.choice(_HIDDEN_SHARES, size=len(measured))
    n_hidden = np.maximum(np.minimum(np.rint(shares * sizes).astype(int), sizes - 1), sizes > 1)
    place = np.where(measured, rng.random(measured.shape), np.inf).argsort(axis=1).argsort(axis=1)
    hidden: npt.NDArray[np.bool_] = place < n_hidden[:, None]
    return hidden
