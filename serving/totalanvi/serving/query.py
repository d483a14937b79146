"""A query: cells to be mapped, read from memory or from a file in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.serving.counts import protein_counts, rna_counts
from totalanvi.serving.errors import QueryError
from totalanvi.serving.names import require_not_empty, require_unique_cells
from totalanvi.serving.selection import ProteinTable, choose_modalities, choose_place, choose_proteins
from totalanvi.serving.tables import Matrix, Table, take_rows

__all__ = ["Query", "QuerySource"]

Kind = Literal["anndata", "mudata"]
Guard: TypeAlias = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Query:
    """A block of query cells with raw counts, in the query's own feature order.

    Parameters
    ----------
    cell_ids
        Names of the cells (cells,).
    gene_names
        Names of the query's genes (genes,).
    rna
        Counts (cells, genes), float32 CSR; no entries where RNA was not measured.
    rna_measured
        Whether the cell has RNA at all (cells,); always true in an AnnData query.
    protein_names
        Names of the query's proteins (proteins,); empty when it has none.
    proteins
        Counts (cells, proteins), float32, 0 where not measured.
    protein_measured
        Whether the cell's proteins were measured (cells,).
    """

    cell_ids: pd.Index
    gene_names: tuple[str, ...]
    rna: sparse.csr_matrix
    rna_measured: npt.NDArray[np.bool_]
    protein_names: tuple[str, ...]
    proteins: npt.NDArray[np.float32]
    protein_measured: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cell_ids)

    def rows(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Query:
        """Take a part of the cells: integer positions, or a mask (cells,)."""
        return Query(
            cell_ids=self.cell_ids[index],
            gene_names=self.gene_names,
            rna=self.rna[index],
            rna_measured=self.rna_measured[index],
            protein_names=self.protein_names,
            proteins=self.proteins[index],
            protein_measured=self.protein_measured[index],
        )


@dataclass(frozen=True, eq=False)
class _Block:
    """One modality of a query: its names, and where its counts are read from."""

    feature_names: tuple[str, ...]
    matrix: Matrix
    where: str
    positions: npt.NDArray[np.intp] | None
    """Row of each of the query's cells in the matrix, -1 where it has none; None when rows and cells are the same."""
    feature_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What else the query calls its features: columns of ``var`` (features,), by name."""

    def read(self, start: int, stop: int) -> tuple[Any, npt.NDArray[np.bool_]]:
        """Return the rows that exist among cells ``start:stop``, and a mask of which cells these are."""
        if self.positions is None:
            return take_rows(self.matrix, np.arange(start, stop)), np.ones(stop - start, dtype=bool)
        positions = self.positions[start:stop]
        present = positions >= 0
        return take_rows(self.matrix, positions[present]), present


class QuerySource:
    """Where a query's cells come from; nothing but names is read before `read`.

    Parameters
    ----------
    kind
        Whether the query is an AnnData or a MuData.
    cell_ids
        Names of all cells (cells,), in the order of the output.
    rna
        The RNA counts.
    proteins
        The protein counts, or None to map without.
    layers
        Names of the layers that the RNA has, for messages.
    rna_modality
        Name of the modality that holds RNA; None in an AnnData query.
    guard
        Makes the context in which cells are read: a file's turns what damage in the file brings up into an error that
        names it.

    Raises
    ------
    QueryError
        When there is no cell or no gene, or cell names repeat.

    Examples
    --------
    >>> import anndata
    >>> from totalanvi.serving.readers import open_query
    >>> counts = sparse.csr_matrix(np.ones((5, 3), dtype=np.float32))
    >>> with open_query(anndata.AnnData(counts)) as source:
    ...     [len(block) for block in source.blocks(2)]
    [2, 2, 1]
    """

    def __init__(
        self,
        kind: Kind,
        cell_ids: pd.Index,
        rna: _Block,
        proteins: _Block | None,
        layers: Sequence[str],
        rna_modality: str | None = None,
        guard: Guard = nullcontext,
    ) -> None:
        self.kind = kind
        self.cell_ids = cell_ids
        self.rna_modality = rna_modality
        self._rna = rna
        self._proteins = proteins
        self._layers = tuple(layers)
        self._guard = guard
        self.gene_names = rna.feature_names
        self.gene_columns = dict(rna.feature_columns)
        self.protein_names = () if proteins is None else proteins.feature_names
        require_not_empty(len(cell_ids), len(self.gene_names), rna.where)
        require_unique_cells(cell_ids)

    @classmethod
    def from_anndata(
        cls, table: Table, proteins: str | None = None, layer: str | None = None, guard: Guard = nullcontext
    ) -> QuerySource:
        """Read RNA from an AnnData's ``X``, a layer or ``raw``, and proteins from ``obsm``.

        Parameters
        ----------
        table
            The AnnData, in memory or in a file.
        proteins
            Key of ``obsm``; None takes ``"protein_expression"`` when there is one, ``"none"`` takes none.
        layer
            Layer that holds the raw counts, or ``"X"`` or ``"raw"``; None finds the one that does.
        guard
            See the class.

        Raises
        ------
        QueryError
            When a key or layer is missing, or what it holds cannot be used.
        """
        rna = _rna_block(table, layer, positions=None)
        chosen = choose_proteins(table, proteins)
        block = None if chosen is None else _protein_block(chosen, positions=None)
        return cls("anndata", table.cell_names, rna, block, _layers(table), guard=guard)

    @classmethod
    def from_mudata(
        cls,
        cell_ids: pd.Index,
        tables: Mapping[str, Table],
        proteins: str | None = None,
        layer: str | None = None,
        guard: Guard = nullcontext,
    ) -> QuerySource:
        """Read RNA and proteins from the modalities of a MuData.

        Parameters
        ----------
        cell_ids
            Names of all cells of the MuData.
        tables
            Its modalities by name.
        proteins
            Name of the protein modality; None takes the one named prot, protein, adt or ab when there is one,
            ``"none"`` takes none.
        layer
            As in `from_anndata`, of the RNA modality.
        guard
            See the class.

        Raises
        ------
        QueryError
            When a modality or layer is missing, or no cell has RNA.
        """
        rna_name, protein_name = choose_modalities(list(tables), proteins)
        rna = _rna_block(tables[rna_name], layer, _positions(cell_ids, tables[rna_name], rna_name))
        block = None
        if protein_name is not None:
            table = tables[protein_name]
            place = choose_place(table, None, protein_name)
            chosen = ProteinTable(table.feature_names(place), table.matrix(place), f"modality {protein_name!r}")
            block = _protein_block(chosen, _positions(cell_ids, table, protein_name))
        return cls("mudata", cell_ids, rna, block, _layers(tables[rna_name]), rna_name, guard)

    def __len__(self) -> int:
        return len(self.cell_ids)

    @property
    def rna_place(self) -> str:
        """Where RNA counts are read from, such as ``"layer 'counts'"``."""
        return self._rna.where

    @property
    def protein_place(self) -> str | None:
        """Where protein counts are read from; None when the query is mapped without."""
        return None if self._proteins is None else self._proteins.where

    @property
    def n_without_rna(self) -> int:
        """Number of cells that the RNA modality lacks: these cannot be mapped."""
        return 0 if self._rna.positions is None else int((self._rna.positions < 0).sum())

    def read(self, start: int, stop: int) -> Query:
        """Read and check cells ``start:stop``.

        Raises
        ------
        CountsError
            When a value is no raw count.
        """
        with self._guard():
            return self._read(start, min(stop, len(self)))

    def blocks(self, size: int) -> Iterator[Query]:
        """Read all cells in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.read(start, start + size)

    def _read(self, start: int, stop: int) -> Query:
        cells = self.cell_ids[start:stop]
        rna, rna_measured = self._rna.read(start, stop)
        cure = _layer_cure(self._layers)
        counts = rna_counts(rna, cells[rna_measured], self.gene_names, self._rna.where, cure)
        proteins = np.zeros((len(cells), len(self.protein_names)), dtype=np.float32)
        protein_measured = np.zeros(len(cells), dtype=bool)
        if self._proteins is not None:
            rows, present = self._proteins.read(start, stop)
            proteins[present], protein_measured[present] = protein_counts(
                rows, cells[present], self.protein_names, self._proteins.where
            )
        return Query(
            cell_ids=cells,
            gene_names=self.gene_names,
            rna=_spread_rows(counts, rna_measured),
            rna_measured=rna_measured,
            protein_names=self.protein_names,
            proteins=proteins,
            protein_measured=protein_measured,
        )


def _rna_block(table: Table, layer: str | None, positions: npt.NDArray[np.intp] | None) -> _Block:
    place = choose_place(table, layer)
    return _Block(table.feature_names(place), table.matrix(place), str(place), positions, table.feature_columns(place))


def _layers(table: Table) -> list[str]:
    return [place.layer for place in table.places if place.kind == "layer"]


def _protein_block(proteins: ProteinTable, positions: npt.NDArray[np.intp] | None) -> _Block:
    return _Block(proteins.names, proteins.matrix, proteins.where, positions)


def _positions(cell_ids: pd.Index, table: Table, modality: str) -> npt.NDArray[np.intp]:
    require_unique_cells(table.cell_names, f" of modality {modality!r}")
    positions: npt.NDArray[np.intp] = table.cell_names.get_indexer(cell_ids)
    if len(cell_ids) and not (positions >= 0).any():
        raise QueryError(
            f"Expected cells of the query in modality {modality!r}; found none of the {len(cell_ids)} names there. "
            f"Bring the names in line (mdata.update())."
        )
    return positions


def _spread_rows(counts: sparse.csr_matrix, present: npt.NDArray[np.bool_]) -> sparse.csr_matrix:
    """Put the rows where `present` is true, with empty rows between."""
    if present.all():
        return counts
    lengths = np.zeros(len(present), dtype=counts.indptr.dtype)
    lengths[present] = np.diff(counts.indptr)
    pointers = np.concatenate([[0], np.cumsum(lengths)]).astype(counts.indptr.dtype)
    return sparse.csr_matrix((counts.data, counts.indices, pointers), shape=(len(present), counts.shape[1]))


def _layer_cure(layers: Sequence[str]) -> str:
    if layers:
        names = ", ".join(repr(name) for name in layers)
        return f"Name the layer that holds the raw counts (layer=, --layer); this query has {names}."
    return "Store the raw counts in X, or in a layer and name it (layer=, --layer); this query has no layers."
