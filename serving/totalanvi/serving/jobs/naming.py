"""What the results of each query are called: after its file, and never as another's."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath, PurePosixPath

from totalanvi.serving.errors import QueryError
from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.remote import is_remote, remote_name, shown
from totalanvi.serving.jobs.suffixes import QUERY_SUFFIXES

__all__ = ["names_of"]

_NAME = re.compile(r"[^._/\\\0][^/\\\0]*")


def names_of(queries: Sequence[Listed], known: Mapping[str, str]) -> dict[str, Listed]:
    """Give each query a name of its own, which is a folder's.

    Parameters
    ----------
    queries
        Each at another address.
    known
        Names by address, as `totalanvi.serving.jobs.remote.shown` has it, that an earlier run has given; these stay.

    Returns
    -------
    dict
        Queries by name, in their order. Where several have the same, it is followed by the beginning of their
        address' digest, so that no name depends on the order.

    Raises
    ------
    QueryError
        When a name that was asked for cannot be a folder's, or is asked for twice.

    Examples
    --------
    >>> list(names_of([Listed("/a/donor1.h5ad"), Listed("/a/cells.h5ad"), Listed("/b/cells.h5mu")], {}))
    ['donor1', 'cells-e433ade3', 'cells-c4c7abd8']
    """
    told = {query.address: known.get(shown(query.address)) for query in queries}
    wanted = {query.address: query.name or told[query.address] or _plain_name(query.address) for query in queries}
    # As a Mac or Windows would have it, to which "A" and "a" are the same folder.
    often = Counter(name.casefold() for name in wanted.values())
    earlier = {name.casefold() for name in known.values()}
    named: dict[str, Listed] = {}
    for query in queries:
        name = wanted[query.address]
        if query.name is not None:
            _require_possible(name, often)
        elif told[query.address] is None and (often[name.casefold()] > 1 or name.casefold() in earlier):
            name = f"{name}-{hashlib.sha256(shown(query.address).encode()).hexdigest()[:8]}"
        named[name] = query
    return named


def _plain_name(address: str) -> str:
    file = remote_name(address) if is_remote(address) else PurePath(address).name
    stem = PurePosixPath(file).stem if file.endswith(QUERY_SUFFIXES) else file
    # What begins with one of these is not looked at by those who read folders of tables.
    return re.sub(r"[^\w.+ -]", "_", stem).lstrip("._") or "query"


def _require_possible(name: str, often: Mapping[str, int]) -> None:
    if not _NAME.fullmatch(name):
        raise QueryError(
            f"Expected names of queries that can be a folder's, and begin with neither dot nor underscore; found "
            f"{name!r}. Choose another."
        )
    if often[name.casefold()] > 1:
        raise QueryError(f"Expected each query to have a name of its own; found {name!r} twice. Choose others.")
