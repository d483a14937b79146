"""Where a query names its genes, and which genes of the reference these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.serving.alignment.gene_names import GeneNames
from totalanvi.serving.alignment.matching import Found, Matching, match
from totalanvi.serving.alignment.species import capitals_of, foreign_species
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.listing import quoted

__all__ = ["VAR_NAMES", "GeneMatching", "QueryGenes", "match_genes", "share_of"]

VAR_NAMES = "var_names"
"""Stands for the index of ``var`` where a column can be named."""

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QueryGenes:
    """Every name that a query has for its genes.

    Parameters
    ----------
    names
        ``var_names`` (genes,).
    columns
        Columns of ``var`` that hold text (genes,), by name.
    """

    names: Sequence[str]
    columns: Mapping[str, Sequence[str]]

    def namings(self, column: str | None) -> dict[str, Sequence[str]]:
        """Return the names that may be matched: those of one column, or all there are, ``var_names`` first.

        Raises
        ------
        AlignmentError
            When there is no such column.
        """
        every = {VAR_NAMES: self.names} | {name: values for name, values in self.columns.items() if name != VAR_NAMES}
        if column is None:
            return every
        if column not in every:
            raise AlignmentError(
                f"Expected gene names in the column {column!r} of var; found {quoted(list(every))}. Name one "
                f"of these, or none to take what matches best (gene_column=, --gene-column)."
            )
        return {column: every[column]}


@dataclass(frozen=True, eq=False)
class GeneMatching:
    """The genes of a query, matched.

    Parameters
    ----------
    column
        Where their names were read.
    matching
        Of these names.
    foreign
        Why names that were not in the user's map were not trusted: a message; None when they were.
    """

    column: str
    matching: Matching
    foreign: str | None


def match_genes(
    reference: GeneNames, query: QueryGenes, column: str | None, mapped: Mapping[str, Found], weight: Shares
) -> GeneMatching:
    """Match genes by the names that match best.

    Parameters
    ----------
    reference
        The reference's names.
    query
        The query's.
    column
        The one to match by; None takes the one whose matches carry most weight, ``var_names`` where several do.
    mapped
        What the user's map says, by a name in ``var_names`` or in `column`: it goes before everything else.
    weight
        What each gene is worth (genes,).
    """
    namings = query.namings(column)
    matchings = {
        name: match(values, _found(reference, query.names, values, mapped), sums_equals=True)
        for name, values in namings.items()
    }
    best = max(matchings, key=lambda name: (share_of(matchings[name], weight), len(matchings[name].places)))
    foreign = _foreign(reference, namings, matchings, best, weight)
    if foreign is None:
        return GeneMatching(best, matchings[best], None)
    told = [mapped.get(name) or mapped.get(value) for name, value in zip(query.names, namings[best], strict=True)]
    return GeneMatching(best, match(namings[best], told, sums_equals=True), foreign)


def share_of(matching: Matching, shares: Shares) -> float:
    """Return what the matched features carry, in [0, 1]; in model order, so that the query's does not show in it."""
    if len(matching.places) == len(shares):
        return 1.0  # Rounded shares may add up to a little less.
    return min(1.0, float(shares[matching.places].sum()))


def _found(
    reference: GeneNames, names: Sequence[str], values: Sequence[str], mapped: Mapping[str, Found]
) -> list[Found | None]:
    return [
        mapped.get(name) or mapped.get(value) or reference.find(value)
        for name, value in zip(names, values, strict=True)
    ]


def _foreign(
    reference: GeneNames,
    namings: Mapping[str, Sequence[str]],
    matchings: Mapping[str, Matching],
    best: str,
    weight: Shares,
) -> str | None:
    """Say why the query is of another species; None when it does not seem so."""
    if (species := foreign_species(list(namings.values()), reference.ensembl_ids, reference.names)) is not None:
        return (
            f"Expected genes of the reference's species ({species[1]}); found those of another ({species[0]}), as "
            f"their Ensembl ids say. {_CURE}"
        )
    # Other columns may well hold orthologs; these two are what the query goes by.
    for naming in {VAR_NAMES, best} & namings.keys():
        others = {name: place for name in namings[naming] if (place := reference.of_another_species(name)) is not None}
        places = np.unique(np.fromiter(others.values(), dtype=np.intp, count=len(others)))
        if len(others) and weight[places].sum() > share_of(matchings[naming], weight):
            name, place = next(iter(others.items()))
            own, other = ("human", "mouse or rat") if capitals_of(name) == "first" else ("mouse or rat", "human")
            return (
                f"Expected genes of the reference's species ({own}: {reference.names[place]!r}); found those of "
                f"another ({other}): {len(others)} names, such as {name!r}, are the reference's only in other "
                f"capitals. {_CURE}"
            )
    return None


_CURE = (
    "Map to a reference of the query's species, or name orthologs in a table (feature_map=, --feature-map): only those "
    "would be used."
)
