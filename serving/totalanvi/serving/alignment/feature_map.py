"""The user's own word on names: a table of two columns, what the query calls a feature and what the reference does."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, Union

from totalanvi.serving.alignment.matching import Found
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.listing import examples

__all__ = ["FeatureMap", "places_of", "read_feature_map"]

FeatureMap: TypeAlias = Union[Mapping[str, str], str, "os.PathLike[str]"]
"""Names by name, or the path of a table; an empty name leaves the feature out."""

_HEADER = ("query", "reference")


def read_feature_map(given: FeatureMap) -> dict[str, str]:
    """Read a map of features.

    Parameters
    ----------
    given
        A mapping, or the path of a CSV or TSV file with two columns: the query's name, and the reference's (empty to
        leave the feature out). A first line ``query,reference`` is a header.

    Returns
    -------
    dict
        Reference name by query name.

    Raises
    ------
    AlignmentError
        When the file cannot be read, a line does not have two columns, or a query name has two meanings.

    Examples
    --------
    >>> read_feature_map({"PD-1": "CD279", "junk": ""})
    {'PD-1': 'CD279', 'junk': ''}
    """
    if isinstance(given, Mapping):
        return {str(name): str(meaning) for name, meaning in given.items()}
    if not isinstance(given, (str, os.PathLike)):
        raise AlignmentError(
            f"Expected names by name, or the path of a table, as the feature map; found {type(given).__name__}. Give a "
            f"dict (feature_map=)."
        )
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AlignmentError(
            f"Expected a table of feature names (CSV or TSV, UTF-8) at {str(path)!r}; found that it cannot be read "
            f"({error}). Check the path (feature_map=, --feature-map)."
        ) from error
    return _meanings(path, rows)


def places_of(
    meanings: Mapping[str, str], find_gene: Callable[[str], int | None], find_protein: Callable[[str], int | None]
) -> tuple[dict[str, Found], dict[str, Found]]:
    """Look up what a map says, for genes and for proteins: a name of both means both.

    Parameters
    ----------
    meanings
        Reference name by query name.
    find_gene, find_protein
        Return the place of a reference's own name; None when it has no such.

    Raises
    ------
    AlignmentError
        When the reference has neither a gene nor a protein of that name.
    """
    genes: dict[str, Found] = {}
    proteins: dict[str, Found] = {}
    unknown: list[str] = []
    for name, meaning in meanings.items():
        if not meaning:
            genes[name] = proteins[name] = Found((), "map", "mapped to nothing")
            continue
        known = False
        for places, find in ((genes, find_gene), (proteins, find_protein)):
            if (place := find(meaning)) is not None:
                places[name] = Found((place,), "map")
                known = True
        if not known:
            unknown.append(meaning)
    if unknown:
        raise AlignmentError(
            f"Expected the second column of the feature map to name genes or proteins of the reference; found "
            f"{len(unknown)} names that it does not have, such as {examples(unknown)}. Spell them as "
            f"the reference does (/v1/features lists its names), or leave the column empty to leave a feature out."
        )
    return genes, proteins


def _meanings(path: Path, rows: Sequence[Sequence[str]]) -> dict[str, str]:
    meanings: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        values = tuple(value.strip() for value in row)
        if not any(values) or (number == 1 and tuple(value.casefold() for value in values) == _HEADER):
            continue
        if len(values) != 2 or not values[0]:
            raise AlignmentError(
                f"Expected two columns, the query's name and the reference's, in every line of {str(path)!r}; found "
                f"{row!r} in line {number}. Separate them by a comma or a tab, and quote names that hold one."
            )
        name, meaning = values
        if meanings.setdefault(name, meaning) != meaning:
            raise AlignmentError(
                f"Expected one meaning for each name in {str(path)!r}; found {name!r} as {meanings[name]!r} and as "
                f"{meaning!r} in line {number}. Keep one of the lines."
            )
    return meanings
