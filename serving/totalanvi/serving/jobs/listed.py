"""Which queries are meant: files, folders of them, patterns, lists of names, here or at an address."""

from __future__ import annotations

import csv
import glob
import io
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from totalanvi.formats.errors import FormatError
from totalanvi.formats.stores import layout_of
from totalanvi.serving.errors import QueryError
from totalanvi.serving.jobs.remote import is_remote, local_path, matching, read_text
from totalanvi.serving.jobs.suffixes import LIST_SUFFIXES, QUERY_SUFFIXES
from totalanvi.serving.listing import quoted

__all__ = ["Listed", "holds_queries", "is_several", "listed_queries"]

_HEADER = ("query", "name")


@dataclass(frozen=True)
class Listed:
    """A query, as somebody listed it.

    Parameters
    ----------
    address
        Absolute path, or an address elsewhere.
    name
        What its results are to be called; None where nobody said.
    """

    address: str
    name: str | None = None


def is_several(word: str) -> bool:
    """Tell what may stand for several queries, or for one elsewhere, from the path of one query.

    Examples
    --------
    >>> is_several("donors.csv"), is_several("data/*.h5ad"), is_several("donor1.h5ad")
    (True, True, False)
    """
    if is_remote(word) or word.endswith(LIST_SUFFIXES):
        return True
    path = Path(word).expanduser()
    return _is_folder_of_queries(path) if path.exists() else glob.has_magic(word)


def holds_queries(word: str) -> bool:
    """Tell a folder with queries in it from other words.

    Examples
    --------
    >>> holds_queries("runs/"), holds_queries("donor1.h5ad")  # doctest: +SKIP
    (True, False)
    """
    path = Path(word).expanduser()
    return _is_folder_of_queries(path) and os.access(path, os.R_OK | os.X_OK) and any(map(_is_query, path.iterdir()))


def listed_queries(words: Sequence[str]) -> list[Listed]:
    """List the queries that words stand for, each once, in the order of the words.

    Parameters
    ----------
    words
        A query's file or folder; a folder that holds some (those in it are not searched further); a pattern with
        ``*``, ``?`` or ``[…]``, where ``**`` stands for any folders; a list: a ``.txt`` with one of these a line, or a
        ``.csv`` or ``.tsv`` with a column ``query`` and perhaps a column ``name``. Paths in a list are relative to it.
        Instead of a path, an address such as ``https://host/donor1.h5ad``, ``s3://lab/runs/`` or ``s3://lab/*.h5ad``.

    Raises
    ------
    QueryError
        When a list cannot be read, or a word stands for no query.

    Examples
    --------
    >>> [query.address for query in listed_queries(["/data/donor1.h5ad", "https://host/donor2.h5ad"])]
    ['/data/donor1.h5ad', 'https://host/donor2.h5ad']
    """
    found: dict[str, Listed] = {}
    for word in words:
        for query in _of_list(word) if word.endswith(LIST_SUFFIXES) else _of_word(word):
            found.setdefault(query.address, query)
    return list(found.values())


def _of_word(word: str, name: str | None = None) -> list[Listed]:
    addresses = _elsewhere(word) if is_remote(word) else _here(Path(word).expanduser())
    if not addresses:
        raise QueryError(
            f"Expected queries ({', '.join(QUERY_SUFFIXES)}, or folders of 10x matrices) at {word!r}; found none. "
            f"Check the path or the pattern."
        )
    if name is not None and len(addresses) > 1:
        raise QueryError(
            f"Expected one query to be called {name!r}; found {len(addresses)} at {word!r}. List them one by one."
        )
    return [Listed(address, name) for address in addresses]


def _elsewhere(address: str) -> list[str]:
    path = local_path(address)
    return matching(address) if path is None else _here(path)


def _here(path: Path) -> list[str]:
    if not path.exists() and glob.has_magic(str(path)):
        start = Path(path.anchor)
        return sorted(map(_absolute, start.glob(str(path.relative_to(start)))))
    if _is_folder_of_queries(path):
        return [_absolute(entry) for entry in sorted(path.iterdir()) if _is_query(entry)]
    # What is not there is told when its turn comes, as is what turns out to be something else.
    return [_absolute(path)]


def _absolute(path: Path) -> str:
    """Return a path by which a query is known from any folder; links keep their own names."""
    return os.path.normpath(path.absolute())


def _is_folder_of_queries(path: Path) -> bool:
    return path.is_dir() and not _is_query(path)


def _is_query(path: Path) -> bool:
    if path.is_file():
        return path.suffix in QUERY_SUFFIXES
    try:
        layout_of(path)
    except FormatError:
        return False
    return True


def _of_list(word: str) -> Iterator[Listed]:
    here = local_path(word) if is_remote(word) else Path(word).expanduser()
    for entry, name in _rows(word, read_text(word) if here is None else _read(here)):
        if entry.endswith(LIST_SUFFIXES):
            raise QueryError(f"Expected queries in the list {word!r}; found another list, {entry!r}. Join them.")
        if here is None and (local_path(entry) is not None if is_remote(entry) else entry.startswith("/")):
            raise QueryError(
                f"Expected queries beside the list {word!r}, or at addresses; found a file of this machine, {entry!r}. "
                f"Copy the list here if that is meant."
            )
        if is_remote(entry):
            place = entry
        elif here is None:
            place = posixpath.join(posixpath.dirname(word), entry)
        else:
            place = str(here.parent / Path(entry).expanduser())
        yield from _of_word(place, name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(
            f"Expected a list of queries in UTF-8 at {str(path)!r}; found that it cannot be read ({error}). Check it."
        ) from error


def _rows(word: str, text: str) -> list[tuple[str, str | None]]:
    """Return what each line of a list says: a query, and what it is called if that is said."""
    if word.endswith(".txt"):
        lines = (line.strip() for line in text.splitlines())
        return [(line, None) for line in lines if line and not line.startswith("#")]
    table = csv.DictReader(io.StringIO(text), delimiter="\t" if word.endswith(".tsv") else ",")
    try:
        columns, rows = list(table.fieldnames or ()), list(table)
    except csv.Error as error:
        raise QueryError(
            f"Expected a table in the list {word!r}; found that it cannot be read as one ({error}). Check it."
        ) from error
    if _HEADER[0] not in columns:
        raise QueryError(
            f"Expected a column {_HEADER[0]!r} in the first line of the list {word!r}, and perhaps {_HEADER[1]!r}; "
            f"found {quoted(columns, 5)}. Name it so."
        )
    return [(row["query"].strip(), (row.get("name") or "").strip() or None) for row in rows if row["query"]]
