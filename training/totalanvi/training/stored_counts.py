"""Counts that stay in a file: rows of them are read when they are asked for, never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from totalanvi.training.errors import RegistrationError, TrainingError

__all__ = ["Counts", "StoredCounts", "StoredRows", "canonical", "read_rows", "slabs"]

Positions: TypeAlias = npt.NDArray[np.intp]

_SLAB_CELLS = 16_384
_GAP = 64
"""Rows between two wanted ones that are read along: a second read costs more than they do."""


class StoredRows(Protocol):
    """A table in a file, (cells, genes)."""

    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Rows ``start:stop`` as they are stored, once their structure is known to be sound."""

    def stop_of_slab(self, start: int) -> int:
        """Return where a slab that begins with this row ends, so that it fits into memory."""


@dataclass(frozen=True, eq=False, repr=False)
class StoredCounts:
    """Raw counts in a file, (cells, genes), of which rows become canonical float32 CSR in memory.

    Parameters
    ----------
    stored
        The table in the file.
    where
        Where it was found, for messages.
    lengths
        Counts above 0 of each row of the file, (rows,), as they were when all of them were looked at.
    totals
        Their sums, (rows,).
    rows
        Which rows of the file these cells are, (cells,); all of them when `None`.
    columns
        The same of genes.

    Examples
    --------
    >>> cells.rna[np.array([5, 2])].shape  # doctest: +SKIP
    (2, 4000)
    """

    stored: StoredRows
    where: str
    lengths: npt.NDArray[np.int32]
    totals: npt.NDArray[np.float32]
    rows: Positions | None = None
    columns: Positions | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""
        n_rows, n_columns = self.stored.shape
        return (
            n_rows if self.rows is None else len(self.rows),
            n_columns if self.columns is None else len(self.columns),
        )

    def __repr__(self) -> str:
        """Say how large it is and where."""
        return f"{type(self).__name__}({self.shape[0]} cells × {self.shape[1]} genes in {self.where})"

    @property
    def nnz(self) -> int:
        """Counts above 0 in these rows, over all genes of the file."""
        lengths = self.lengths if self.rows is None else self.lengths[self.rows]
        return int(lengths.sum(dtype=np.int64))

    def chosen(self, positions: Positions) -> StoredCounts:
        """These cells, in the order given; nothing is read yet."""
        return replace(self, rows=positions if self.rows is None else self.rows[positions])

    def of_genes(self, positions: Positions) -> StoredCounts:
        """These genes, in the order given; nothing is read yet."""
        return replace(self, columns=positions if self.columns is None else self.columns[positions])

    def sum_of_cells(self) -> npt.NDArray[np.float32]:
        """Total count of each cell over its genes, (cells,)."""
        if self.columns is None:
            return self.totals if self.rows is None else self.totals[self.rows]
        return np.concatenate([np.asarray(slab.sum(axis=1)).ravel() for slab in slabs(self)])

    @property
    def indptr(self) -> npt.NDArray[Any]:
        """Where each cell's counts would begin in memory, and the last one's end, (cells + 1,).

        With genes left out, those that stay are counted by reading them.
        """
        if self.columns is not None:
            lengths = np.concatenate([np.diff(rows.indptr) for rows in slabs(self)])
        else:
            lengths = self.lengths if self.rows is None else self.lengths[self.rows]
        pointers = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return pointers.astype(np.int32) if pointers[-1] < 2**31 else pointers

    def __getitem__(self, index: Positions | slice) -> sp.csr_matrix:
        """Read cells by position, in the order given, (wanted, genes).

        Raises
        ------
        RegistrationError
            When the file cannot be read any more, or holds something else than it did.
        """
        cells = np.arange(self.shape[0])[index] if self.rows is None else self.rows[index]
        if len(cells) == 0:
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        ascending, place = np.unique(cells, return_inverse=True)
        found = [self._read(run) for run in self._runs(ascending)]
        rows = found[0] if len(found) == 1 else sp.vstack(found, format="csr")
        return rows if np.array_equal(ascending, cells) else rows[place]

    def _runs(self, ascending: Positions) -> Iterator[Positions]:
        """Cut rows that are wanted into parts that are read at once."""
        gaps = np.flatnonzero(np.diff(ascending) > _GAP) + 1
        for run in np.split(ascending, gaps):
            start = 0
            while start < len(run):
                stop = int(np.searchsorted(run, self.stored.stop_of_slab(int(run[start]))))
                yield run[start:stop]
                start = stop

    def _read(self, run: Positions) -> sp.csr_matrix:
        first, last = int(run[0]), int(run[-1])
        rows = read_rows(self.stored, self.where, first, last + 1)
        if len(run) < rows.shape[0]:
            rows = rows[run - first]
        rows = canonical(rows)
        lengths = np.diff(rows.indptr)
        if not np.array_equal(lengths, self.lengths[run]):
            cell = int(run[np.argmax(lengths != self.lengths[run])])
            raise RegistrationError(
                f"Expected the counts that {self.where} held when it was registered, found others in its row {cell}: "
                "the file was changed, moved or deleted meanwhile; leave it in place until the work is done."
            )
        if self.columns is not None:
            rows = sp.csr_matrix(rows[:, self.columns])
            rows.sort_indices()
        return rows


Counts: TypeAlias = sp.csr_matrix | StoredCounts
"""Counts in memory, or in a file: either gives rows for positions or a slice."""


def read_rows(stored: StoredRows, where: str, start: int, stop: int) -> sp.csr_matrix:
    """Rows ``start:stop`` of a table in a file, as they are stored.

    Raises
    ------
    RegistrationError
        When they cannot be read.
    """
    try:
        return stored.read(start, stop)
    except TrainingError:
        raise
    except Exception as error:  # whatever the libraries say of a file that is gone, closed or damaged
        raise RegistrationError(
            f"Expected to read cells {start} to {stop - 1} of {where} from their file, found that they cannot be read "
            f"({type(error).__name__}: {' '.join(str(error).split())}); keep the file whole, open and in place until "
            "the work is done."
        ) from error


def slabs(counts: Counts) -> Iterator[sp.csr_matrix]:
    """All rows in order, in parts that fit into memory; counts in memory are one part."""
    if not isinstance(counts, StoredCounts):
        yield counts
        return
    for start in range(0, counts.shape[0], _SLAB_CELLS):
        yield counts[start : start + _SLAB_CELLS]


def canonical(rows: Any) -> sp.csr_matrix:
    """Rows as float32, with each count once, in ascending order of genes, and no stored zero."""
    rows = rows.astype(np.float32)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows
