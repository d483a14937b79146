"""Proteins that a query has where none are looked for: its user is told, and decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from totalanvi.formats.counts_place import holds_counts
from totalanvi.serving.queries.tables import Table

__all__ = ["Elsewhere", "Overlooked", "modality_elsewhere", "obsm_elsewhere"]

_WORDS = ("adt", "antibod", "cite", "prot")
"""What keys and modalities of proteins are called, in part."""

_OURS = "totalanvi_"
"""How annotations of an earlier mapping begin: imputed proteins have the names of counted ones."""


@dataclass(frozen=True)
class Overlooked:
    """What looks like counts of proteins.

    Parameters
    ----------
    option
        What chooses it: a key of ``obsm``, or a modality.
    said
        The same in words, with how many of its names are the reference's.
    named
        Whether it names its columns; it cannot be chosen otherwise.
    """

    option: str
    said: str
    named: bool


@dataclass(frozen=True)
class Elsewhere:
    """A part of a query that is not read, and may hold proteins.

    Parameters
    ----------
    where
        In words, such as ``"obsm 'adt'"``.
    option
        See `Overlooked`.
    names
        Of its columns; none where it does not name them.
    holds_counts
        Looks at some of its values.
    """

    where: str
    option: str
    names: Sequence[str]
    holds_counts: Callable[[], bool]

    def looked_at(self, knows: Callable[[str], bool]) -> Overlooked | None:
        """Judge it by its names, or else by what it is called, and by its values; None where it is something else.

        Parameters
        ----------
        knows
            Tells whether a name is that of a protein of the reference.

        Raises
        ------
        QueryError
            When it cannot be read.
        """
        n_known = sum(map(knows, self.names))
        called = any(word in self.option.casefold() for word in _WORDS)
        if not (n_known or called) or not self.holds_counts():
            return None
        names = f"{n_known} of {len(self.names)} names are the reference's" if self.names else "without names"
        return Overlooked(self.option, f"{self.where} ({names})", bool(self.names))


def obsm_elsewhere(table: Table) -> list[Elsewhere]:
    """Give the entries of ``obsm`` of an AnnData; no values are read yet."""

    def holding(key: str) -> bool:
        matrix = table.obsm_matrix(key)
        return matrix is not None and holds_counts(matrix)

    return [
        Elsewhere(f"obsm {key!r}", key, table.obsm_columns(key), partial(holding, key))
        for key in table.obsm_keys
        if not key.startswith(_OURS)
    ]


def modality_elsewhere(name: str, table: Table) -> Elsewhere:
    """Give a modality of a MuData; no values are read yet."""
    names = table.feature_names(table.places[0]) if table.places else ()
    return Elsewhere(
        f"modality {name!r}", name, names, lambda: any(holds_counts(table.matrix(place)) for place in table.places)
    )
