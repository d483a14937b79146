"""Query modes: how much of its proteins a cell brings. Each mode is calibrated by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

__all__ = ["MODES", "MODE_NAMES", "Mode", "modes_of"]

Mode = Literal["protein", "part", "rna"]
"""Of a cell: "protein" when the whole panel of a batch of the reference was measured for it, "part" when fewer proteins
were, "rna" when none was."""

MODES: tuple[Mode, ...] = get_args(Mode)

MODE_NAMES: dict[Mode, str] = {
    "protein": "with proteins",
    "part": "with part of the panel",
    "rna": "from RNA alone",
}
"""How messages call them."""


def modes_of(
    measured: npt.NDArray[np.bool_], protein_batches: Sequence[Sequence[bool]] | npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    """Return the mode of each cell, as an index into `MODES`, (cells,).

    Parameters
    ----------
    measured
        Which protein was measured in which cell, (cells, proteins).
    protein_batches
        Which batch of the reference measured which protein, (batches, proteins).

    Examples
    --------
    >>> measured = np.array([[True, True], [True, False], [False, False]])
    >>> [MODES[mode] for mode in modes_of(measured, [[True, True], [False, False]])]
    ['protein', 'part', 'rna']
    """
    if not measured.any():
        return np.full(len(measured), MODES.index("rna"), dtype=np.intp)
    if measured.all() and np.any(protein_batches):
        return np.full(len(measured), MODES.index("protein"), dtype=np.intp)
    # Several batches may have measured the same panel.
    panels = {panel.tobytes(): panel for panel in np.asarray(protein_batches, dtype=bool) if panel.any()}
    whole = np.zeros(len(measured), dtype=bool)
    for panel in panels.values():
        whole |= (measured if panel.all() else measured[:, panel]).all(axis=1)
    modes: npt.NDArray[np.intp] = np.where(
        whole,
        MODES.index("protein"),
        np.where(measured.any(axis=1), MODES.index("part"), MODES.index("rna")),
    )
    return modes
