"""Where a query comes from: cells read from memory or from a file in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.serving.errors import QueryError
from totalanvi.serving.listing import quoted
from totalanvi.serving.queries.counts import protein_counts, rna_counts
from totalanvi.serving.queries.modality import Modality, positions_in, protein_modality_of, rna_modality_of
from totalanvi.serving.queries.names import require_not_empty, require_unique_cells
from totalanvi.serving.queries.overlooked import Elsewhere, Overlooked, modality_elsewhere, obsm_elsewhere
from totalanvi.serving.queries.query import Kind, Query
from totalanvi.serving.queries.selection import (
    NO_PROTEINS,
    ProteinTable,
    choose_modalities,
    choose_place,
    choose_proteins,
)
from totalanvi.serving.queries.tables import Table

__all__ = ["QuerySource"]

Guard: TypeAlias = Callable[[], AbstractContextManager[None]]


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
    elsewhere
        Where proteins may be, when they were found nowhere and none were named.
    guard
        Makes the context in which cells are read: a file's turns what damage in the file brings up into an error that
        names it.
    beside
        Names of the modalities beside the RNA's, whether they are read or not.

    Raises
    ------
    QueryError
        When there is no cell or no gene, or cell names repeat.

    Examples
    --------
    >>> import anndata
    >>> from totalanvi.serving.queries.readers import open_query
    >>> counts = sparse.csr_matrix(np.ones((5, 3), dtype=np.float32))
    >>> with open_query(anndata.AnnData(counts)) as source:
    ...     [len(block) for block in source.blocks(2)]
    [2, 2, 1]
    """

    def __init__(
        self,
        kind: Kind,
        cell_ids: pd.Index,
        rna: Modality,
        proteins: Modality | None,
        layers: Sequence[str],
        rna_modality: str | None = None,
        elsewhere: Sequence[Elsewhere] = (),
        guard: Guard = nullcontext,
        beside: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.cell_ids = cell_ids
        self.rna_modality = rna_modality
        self.beside = tuple(beside)
        self._rna = rna
        self._proteins = proteins
        self._layers = tuple(layers)
        self._elsewhere = tuple(elsewhere)
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
            Key of ``obsm``; None takes ``"protein_expression"`` when there is one, or else what ``var`` says are
            antibodies (``feature_types``); ``"none"`` takes none.
        layer
            Layer that holds the raw counts, or ``"X"`` or ``"raw"``; None finds the one that does.
        guard
            See the class.

        Raises
        ------
        QueryError
            When a key or layer is missing, or what it holds cannot be used.
        """
        rna = rna_modality_of(table, layer, positions=None)
        chosen = choose_proteins(table, proteins, rna.proteins)
        block = None if chosen is None else protein_modality_of(chosen, positions=None)
        elsewhere = obsm_elsewhere(table) if proteins is None and block is None else ()
        return cls("anndata", table.cell_names, rna, block, _layers(table), elsewhere=elsewhere, guard=guard)

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
            Name of the protein modality; None takes the one named prot, protein, adt or ab when there is one, or else
            what the RNA's ``var`` says are antibodies; ``"none"`` takes none.
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
        rna = rna_modality_of(tables[rna_name], layer, positions_in(cell_ids, tables[rna_name], rna_name))
        block = None
        if protein_name is None and proteins != NO_PROTEINS and rna.proteins is not None:
            block = protein_modality_of(rna.proteins, rna.positions)
        if protein_name is not None:
            table = tables[protein_name]
            place = choose_place(table, None, protein_name)
            chosen = ProteinTable(table.feature_names(place), table.matrix(place), f"modality {protein_name!r}")
            block = protein_modality_of(chosen, positions_in(cell_ids, table, protein_name))
        beside = [name for name in tables if name != rna_name]
        others = beside if proteins is None and block is None else []
        elsewhere = [modality_elsewhere(name, tables[name]) for name in others]
        return cls("mudata", cell_ids, rna, block, _layers(tables[rna_name]), rna_name, elsewhere, guard, beside)

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

    def overlooked(self, knows: Callable[[str], bool]) -> list[Overlooked]:
        """Return what looks like protein counts, when proteins were found nowhere and none were named.

        Parameters
        ----------
        knows
            Tells whether a name is that of a protein of the reference.
        """
        found = []
        for place in self._elsewhere:
            # What cannot be read there is no fault of a query that is mapped without it.
            with suppress(QueryError), self._guard():
                found.append(place.looked_at(knows))
        return [overlooked for overlooked in found if overlooked is not None]

    def read(self, start: int, stop: int) -> Query:
        """Read and check cells ``start:stop``.

        Raises
        ------
        CountsError
            When a value is no raw count.
        """
        with self._guard():
            return self._read(start, min(stop, len(self)))

    def blocks(self, size: int, rows: range | None = None) -> Iterator[Query]:
        """Read cells in order, `size` at a time: all of them, or `rows`, which follow one another."""
        rows = range(len(self)) if rows is None else rows
        for start in rows[::size]:
            yield self.read(start, min(start + size, rows.stop))

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


def _layers(table: Table) -> list[str]:
    return [place.layer for place in table.places if place.kind == "layer"]


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
        return f"Name the layer that holds the raw counts (layer=, --layer); this query has {quoted(layers)}."
    return "Store the raw counts in X, or in a layer and name it (layer=, --layer); this query has no layers."
