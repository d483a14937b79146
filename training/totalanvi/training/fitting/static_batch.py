"""A mini-batch at a fixed place in memory, which one after another is copied into.

The mini-batches of one size differ in one shape only: in how many counts their cells have stored. Here there is room
for some more than one of them had; what is left of it are zeros, as further stored counts of the last cell. A stored
count of zero changes nothing, wherever it says it belongs.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch

from totalanvi.training.data import SparseRows
from totalanvi.training.loaders import TrainingBatch

__all__ = ["StaticBatch"]

_ROOM = 1.25


class StaticBatch:
    """Room for mini-batches of one size.

    Parameters
    ----------
    like
        A mini-batch of that size, on the device; others may have a quarter more stored counts.

    Examples
    --------
    >>> static = StaticBatch(batch)  # doctest: +SKIP
    >>> static.fill(another) if static.fits(another) else None  # doctest: +SKIP
    >>> static.cells.n_cells  # doctest: +SKIP
    256
    """

    def __init__(self, like: TrainingBatch):
        self.capacity = math.ceil(_ROOM * len(like.rna.values)) + 1
        others = {f.name: torch.empty_like(getattr(like, f.name)) for f in fields(like) if f.name != "rna"}
        device = like.rna.values.device
        rna = SparseRows(
            row_starts=torch.full_like(like.rna.row_starts, self.capacity),  # the end of the last row never changes
            # Zeros that are added all in one place would wait for one another.
            columns=torch.arange(self.capacity, device=device) % like.rna.n_columns,
            values=torch.zeros(self.capacity, device=device),
            n_columns=like.rna.n_columns,
        )
        self._cells = TrainingBatch(rna=rna, **others)

    @property
    def cells(self) -> TrainingBatch:
        """The mini-batch that was copied last, with zeros added; nothing that was worked out of another one."""
        return replace(self._cells, rna=replace(self._cells.rna))

    def fits(self, cells: TrainingBatch) -> bool:
        """Whether there is room for a mini-batch."""
        return cells.n_cells == self._cells.n_cells and len(cells.rna.values) <= self.capacity

    def fill(self, cells: TrainingBatch) -> None:
        """Copy a mini-batch that fits."""
        for field in fields(cells):
            if field.name != "rna":
                getattr(self._cells, field.name).copy_(getattr(cells, field.name))
        rna, stored = self._cells.rna, len(cells.rna.values)
        rna.row_starts[:-1].copy_(cells.rna.row_starts[:-1])
        rna.columns[:stored].copy_(cells.rna.columns)
        rna.values[:stored].copy_(cells.rna.values)
        rna.values[stored:].zero_()
