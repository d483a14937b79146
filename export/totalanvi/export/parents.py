"""Reads the parents of a reference's labels from a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from totalanvi.export.errors import ParentsError
from totalanvi.export.served_labels import served_labels
from totalanvi.serving.bundles.hierarchy import hierarchy_problem
from totalanvi.serving.bundles.manifest import UNKNOWN
from totalanvi.serving.listing import quoted

__all__ = ["read_parents", "table_of_parents"]

_COLUMNS = ["label", "parent"]


def read_parents(file: Path, labels: Sequence[str]) -> dict[str, str]:
    """Read the parent of each label.

    Parameters
    ----------
    file
        CSV with the columns ``label,parent``, one row for each label or ancestor that has a parent.
    labels
        Of the reference, (labels,).

    Returns
    -------
    dict
        Parents by the names that labels are served under.

    Raises
    ------
    ParentsError
        When the file is no such table, a name has two parents, is neither a label nor an ancestor of one, or is its own
        ancestor.

    Examples
    --------
    >>> read_parents(Path("parents.csv"), ["CD4 T", "CD8 T", "B"])  # doctest: +SKIP
    {'CD4 T': 'T', 'CD8 T': 'T', 'T': 'lymphocyte', 'B': 'lymphocyte'}
    """
    served = dict(zip(labels, served_labels(labels), strict=True))
    parents: dict[str, str] = {}
    for line, (label, parent) in enumerate(table_of_parents(file), start=2):
        name = served.get(label, label)
        if not name or not parent or parent == UNKNOWN:
            raise ParentsError(
                f"{file}, line {line}: expected a label and its parent, which is not called {UNKNOWN!r}; found "
                f"{label!r} and {parent!r}. Name both, or leave the line out."
            )
        if parents.setdefault(name, served.get(parent, parent)) != served.get(parent, parent):
            raise ParentsError(
                f"{file}, line {line}: expected one parent for {label!r}, found {parents[name]!r} and {parent!r}. "
                "Keep one of them."
            )
    if problem := hierarchy_problem(list(served.values()), parents):
        raise ParentsError(f"{file}: {problem}. The labels are {quoted(labels)}; mend the table.")
    return parents


def table_of_parents(file: Path) -> list[tuple[str, str]]:
    """Read labels and their parents as they stand in a table, whatever the reference's labels are.

    Raises
    ------
    ParentsError
        When the file is no such table.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(map(str.strip, row))]
    except FileNotFoundError as error:
        raise ParentsError(
            f"{file}: expected a CSV file with the columns label,parent, found no such file; check the path."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ParentsError(
            f"{file}: expected a CSV file, found one that cannot be read ({why}); check it and its permissions."
        ) from error
    if not rows or rows[0] != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise ParentsError(
            f"{file}: expected a CSV file with the columns label,parent, and both in each row; found "
            f"{rows[0] if rows else 'nothing'}. Write it so."
        )
    return [(label, parent) for label, parent in rows[1:]]
