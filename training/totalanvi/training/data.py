"""Cells on their way to the model: counts in memory, mini-batches on the device.

RNA stays sparse from the file to the device: a mini-batch carries the stored counts of its rows, never a dense copy
made on the host.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from totalanvi.training.stored_counts import Counts, StoredCounts

__all__ = ["UNLABELLED", "CellBatch", "Cells", "SparseRows", "StoredCells", "registered_cells"]

UNLABELLED = -1
"""The label code of a cell without a label."""


@dataclass(frozen=True)
class SparseRows:
    """A block of sparse rows on a device: the stored values, where each row begins, and their columns."""

    row_starts: Tensor
    columns: Tensor
    values: Tensor
    n_columns: int

    @classmethod
    def from_scipy(cls, matrix: sp.csr_matrix | sp.csr_array) -> SparseRows:
        """Wrap a scipy CSR matrix without copying it dense."""
        return cls(
            row_starts=torch.from_numpy(matrix.indptr.astype(np.int64, copy=False)),
            columns=torch.from_numpy(matrix.indices.astype(np.int64, copy=False)),
            values=torch.from_numpy(matrix.data.astype(np.float32, copy=False)),
            n_columns=matrix.shape[1],
        )

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.row_starts.shape[0] - 1

    @cached_property
    def rows(self) -> Tensor:
        """Row of each stored value, (stored,)."""
        return torch.repeat_interleave(
            torch.arange(self.n_rows, device=self.row_starts.device),
            self.row_starts.diff(),
            output_size=self.values.shape[0],
        )

    @cached_property
    def flat(self) -> Tensor:
        """Position of each stored value in the flattened dense matrix, (stored,)."""
        return self.rows * self.n_columns + self.columns

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where each column begins, (columns + 1,), and row and position of what it stores, (stored,), in host memory.

        Positions are those in `values`.
        """
        places = np.arange(len(self.values), dtype=np.int64)
        pattern = (places, self.columns.numpy(), self.row_starts.numpy())
        matrix = sp.csr_matrix(pattern, (self.n_rows, self.n_columns)).tocsc()
        starts, rows = (torch.from_numpy(part.astype(np.int64, copy=False)) for part in (matrix.indptr, matrix.indices))
        return starts, rows, torch.from_numpy(matrix.data)

    def indexed(self) -> Self:
        """Return these rows, in host memory, with all that follows from their pattern computed beforehand."""
        _ = self.flat, self.by_column
        return self

    def gather(self, dense: Tensor) -> Tensor:
        """Entries of ``dense``, (rows, columns), where values are stored, (stored,)."""
        return dense.reshape(-1).index_select(0, self.flat)

    def sum_per_row(self, stored: Tensor) -> Tensor:
        """Sum of ``stored``, (stored,), over each row, (rows,)."""
        return torch.segment_reduce(stored, "sum", offsets=self.row_starts, initial=0.0)

    def with_values(self, values: Tensor) -> SparseRows:
        """Return the same pattern with other values."""
        other = replace(self, values=values)
        known = ("rows", "flat", "by_column")
        other.__dict__.update({name: self.__dict__[name] for name in known if name in self.__dict__})
        return other

    def part(self, start: int, stop: int) -> SparseRows:
        """Return neighbouring rows, without a copy of what they store, in host memory."""
        starts = self.row_starts[start : stop + 1]
        stored = slice(int(starts[0]), int(starts[-1]))
        return SparseRows(starts - starts[0], self.columns[stored], self.values[stored], self.n_columns)

    def to_dense(self) -> Tensor:
        """A dense tensor, (rows, columns), made on the device the rows are on."""
        dense = self.values.new_zeros(self.n_rows * self.n_columns)
        # Added, not written: zeros that only fill up memory (see `static_batch`) may name a place that is taken.
        return dense.index_add_(0, self.flat, self.values).view(self.n_rows, self.n_columns)

    def take(self, rows: Tensor, n_stored: int) -> SparseRows:
        """Take some rows, on the device they are on.

        Parameters
        ----------
        rows
            Which, (taken,).
        n_stored
            How many values these have: whoever asks the device for it has to wait.
        """
        lengths = self.row_starts.diff().index_select(0, rows)
        starts = F.pad(lengths.cumsum(0), (1, 0))
        moved = self.row_starts.index_select(0, rows) - starts[:-1]
        places = torch.arange(n_stored, device=rows.device) + moved.repeat_interleave(lengths, output_size=n_stored)
        return SparseRows(
            starts, self.columns.index_select(0, places), self.values.index_select(0, places), self.n_columns
        )

    def transposed(self) -> SparseRows:
        """Return the columns as rows, (columns, rows), in host memory."""
        starts, rows, places = self.by_column
        return SparseRows(starts, rows, self.values.index_select(0, places), self.n_rows)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SparseRows:
        """Return these rows on ``device``."""
        return SparseRows(
            self.row_starts.to(device, non_blocking=non_blocking),
            self.columns.to(device, non_blocking=non_blocking),
            self.values.to(device, non_blocking=non_blocking),
            self.n_columns,
        )

    def pin_memory(self) -> SparseRows:
        """Return these rows in memory that a GPU reads by itself."""
        starts, columns, values = (part.pin_memory() for part in (self.row_starts, self.columns, self.values))
        return SparseRows(starts, columns, values, self.n_columns)


@dataclass(frozen=True)
class CellBatch:
    """A mini-batch of cells, all on one device."""

    rna: SparseRows
    """Counts, (cells, genes)."""
    protein: Tensor
    """Counts, (cells, proteins); 0 where not measured."""
    measured: Tensor
    """Whether each protein was measured for each cell, (cells, proteins), bool."""
    batch: Tensor
    """Batch codes, (cells,)."""
    panel: Tensor
    """Panel codes, (cells,)."""
    label: Tensor
    """Label codes, (cells,); `UNLABELLED` where there is none."""
    categorical: Tensor
    """Codes of the categorical covariates, (cells, covariates)."""
    continuous: Tensor
    """Continuous covariates, (cells, covariates)."""
    size_factor: Tensor
    """Size factor, (cells, 1); (cells, 0) where the library size takes its place."""

    @property
    def library(self) -> Tensor:
        """Total RNA count over the model's genes, (cells, 1)."""
        return self.rna.sum_per_row(self.rna.values).unsqueeze(-1)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.label.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return this batch on ``device``; Lightning calls it."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return type(self)(**moved)

    def take(self, cells: Tensor, n_stored: int) -> CellBatch:
        """Take some cells, (taken,), on the device they are on; their RNA has ``n_stored`` counts stored."""
        others = {f.name: getattr(self, f.name).index_select(0, cells) for f in fields(CellBatch) if f.name != "rna"}
        return CellBatch(rna=self.rna.take(cells, n_stored), **others)

    def pin_memory(self) -> Self:
        """Return this batch in memory that a GPU reads by itself, while the CPU goes on."""
        return type(self)(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})


@dataclass(frozen=True)
class Cells:
    """Registered cells in memory, in the model's order of genes and proteins."""

    rna: sp.csr_matrix
    """Counts, (cells, genes), canonical CSR, float32."""
    protein: npt.NDArray[np.float32]
    """Counts, (cells, proteins); 0 where not measured."""
    measured: npt.NDArray[np.bool_]
    """Whether each protein was measured for each cell, (cells, proteins)."""
    batch: npt.NDArray[np.int64]
    panel: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    """Codes, (cells,); `UNLABELLED` where there is none."""
    categorical: npt.NDArray[np.int64] = None  # type: ignore[assignment]  # (cells, 0) unless given
    """Codes of the categorical covariates, (cells, covariates)."""
    continuous: npt.NDArray[np.float32] = None  # type: ignore[assignment]
    """Continuous covariates, (cells, covariates)."""
    size_factor: npt.NDArray[np.float32] = None  # type: ignore[assignment]
    """Size factor, (cells, 1); (cells, 0) where the library size takes its place."""

    def __post_init__(self) -> None:
        for name, dtype in (("categorical", np.int64), ("continuous", np.float32), ("size_factor", np.float32)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.empty((len(self.label), 0), dtype))

    def __len__(self) -> int:
        return int(self.rna.shape[0])

    def __getitem__(self, index: npt.NDArray[np.intp] | slice) -> Cells:
        """Take cells into memory."""
        return Cells(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def chosen(self, positions: npt.NDArray[np.intp]) -> Cells:
        """Take cells, however many: what lies in a file stays there."""
        return self[positions]

    @property
    def library(self) -> npt.NDArray[np.float32]:
        """Total RNA count, (cells,)."""
        return np.asarray(self.rna.sum(axis=1)).ravel()

    def to_batch(self) -> CellBatch:
        """These cells as one mini-batch in host memory."""
        return CellBatch(
            rna=SparseRows.from_scipy(self.rna),
            protein=torch.from_numpy(self.protein),
            measured=torch.from_numpy(self.measured),
            batch=torch.from_numpy(self.batch),
            panel=torch.from_numpy(self.panel),
            label=torch.from_numpy(self.label),
            categorical=torch.from_numpy(self.categorical),
            continuous=torch.from_numpy(self.continuous),
            size_factor=torch.from_numpy(self.size_factor),
        )


@dataclass(frozen=True)
class StoredCells(Cells):
    """Registered cells whose RNA stays in a file, and the rest in memory; indexed, they are `Cells`."""

    rna: StoredCounts
    """Counts, (cells, genes)."""
    protein: npt.NDArray[Any]
    """Counts, (cells, proteins), of a small type where that holds them; 0 where not measured."""

    def __getitem__(self, index: npt.NDArray[np.intp] | slice) -> Cells:
        """Take cells into memory."""
        taken = super().__getitem__(index)
        return replace(taken, protein=taken.protein.astype(np.float32, copy=False))

    def chosen(self, positions: npt.NDArray[np.intp]) -> StoredCells:
        """Take cells, however many: what lies in a file stays there."""
        others = {f.name: getattr(self, f.name)[positions] for f in fields(self) if f.name != "rna"}
        return StoredCells(rna=self.rna.chosen(positions), **others)

    @property
    def library(self) -> npt.NDArray[np.float32]:
        """Total RNA count, (cells,)."""
        return self.rna.sum_of_cells()

    def to_batch(self) -> CellBatch:
        """These cells as one mini-batch in host memory."""
        return self[:].to_batch()


def registered_cells(rna: Counts, **others: npt.NDArray[Any]) -> Cells:
    """Put the parts of cells together, wherever their RNA is.

    Parameters
    ----------
    rna
        Counts, (cells, genes), in memory or in a file.
    **others
        The other fields of `Cells`.
    """
    if not isinstance(rna, StoredCounts):
        return Cells(rna, **others)
    protein = others.pop("protein")
    if protein.max(initial=0) <= np.iinfo(np.uint16).max:
        protein = protein.astype(np.uint16)
    return StoredCells(rna, protein, **others)
