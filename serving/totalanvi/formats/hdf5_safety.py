"""HDF5 files from strangers: nothing outside the file may be read through it.

HDF5 can point elsewhere in three ways: links into other files, raw data kept in other files, and virtual data sets that
are put together from other files. Whoever opens such a file reads, with their own rights, whatever its author named.
AnnData, MuData and 10x matrices need none of these, so a file with any is refused before data is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias, Union

from totalanvi.formats.errors import FormatError

if TYPE_CHECKING:
    import h5py

__all__ = ["require_self_contained", "stored_objects"]

_MOST_OBJECTS = 1_000_000
_DEEPEST = 128

StoredObject: TypeAlias = Union["h5py.h5d.DatasetID", "h5py.h5g.GroupID", "h5py.h5t.TypeID"]


def require_self_contained(file: h5py.File) -> None:
    """Walk all objects of an open file, and refuse it when one reaches outside.

    Parameters
    ----------
    file
        Opened for reading.

    Raises
    ------
    FormatError
        Naming the first external link, external storage or virtual data set.
    """
    from h5py import h5d

    for name, found in stored_objects(file):
        if isinstance(found, h5d.DatasetID):
            _require_stored_inside(found, name)


def stored_objects(file: h5py.File) -> Iterator[tuple[str, StoredObject]]:
    """Walk all objects of an open file, but for its root: their paths, and they themselves.

    Raises
    ------
    FormatError
        At a link into another file, and when there are more objects, or groups within groups, than cells can need.
    """
    from h5py import h5g, h5l, h5o

    n_objects = 0
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[str, int, h5g.GroupID]] = [("", 0, file["/"].id)]
    while pending:
        path, depth, group = pending.pop()
        for raw_name in group:
            name = f"{path}/{raw_name.decode(errors='replace')}"
            n_objects += 1
            if n_objects > _MOST_OBJECTS or depth >= _DEEPEST:
                raise FormatError(
                    f"Expected at most {_MOST_OBJECTS} groups and data sets, at most {_DEEPEST} within each other; "
                    "found more. Write the cells again (adata.write_h5ad, mdata.write_h5mu)."
                )
            kind = group.links.get_info(raw_name).type
            if kind == h5l.TYPE_SOFT:
                # Leads to another path of this file, which the walk meets by itself.
                continue
            if kind != h5l.TYPE_HARD:
                raise _refusal(name, "a link into another file")
            child = h5o.open(group, raw_name)
            yield name, child
            if isinstance(child, h5g.GroupID):
                info = h5o.get_info(child)
                # Hard links may form a cycle.
                if (info.fileno, info.addr) not in seen:
                    seen.add((info.fileno, info.addr))
                    pending.append((name, depth + 1, child))


def _require_stored_inside(dataset: h5py.h5d.DatasetID, name: str) -> None:
    from h5py import h5d

    properties = dataset.get_create_plist()
    if properties.get_layout() == h5d.VIRTUAL:
        raise _refusal(name, "a virtual data set, put together from other files")
    if properties.get_external_count() > 0:
        raise _refusal(name, "data kept in another file")


def _refusal(name: str, found: str) -> FormatError:
    return FormatError(
        f"Expected a file that holds all of its data itself; found {found}, at {name!r}. "
        f"Write it again as one plain file (adata.write_h5ad, mdata.write_h5mu)."
    )
