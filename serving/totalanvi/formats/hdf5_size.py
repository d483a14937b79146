"""HDF5 files from strangers: what they say of their size, before any of it is read.

A file of a few kilobytes may declare a data set of terabytes, of which most was never written, or which was compressed
over and over: whoever reads it fills their memory. What cells need, texts, numbers and tables of both, is taken; other
types of values, which lead to more of themselves, are refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from totalanvi.formats.errors import FormatError
from totalanvi.formats.hdf5_safety import stored_objects

if TYPE_CHECKING:
    import h5py

__all__ = ["require_modest"]

_NEVER_TOO_MUCH = 1 << 26
"""Bytes that a data set may have whatever the file holds of it."""

_BEST_COMPRESSION = 1100
"""More than deflate can do, 1,032 to 1; what goes beyond was compressed twice, or never written."""

_MOST_DIMENSIONS = 8


def require_modest(file: h5py.File, most_bytes: int) -> None:
    """Refuse a file that, once read, would be far more than it is, or that holds values other than numbers and text.

    Parameters
    ----------
    file
        Opened for reading.
    most_bytes
        What all of its data sets may hold together, as they are in memory.

    Raises
    ------
    FormatError
        Naming the data set.
    """
    from h5py import h5d

    total = 0
    for name, found in stored_objects(file):
        if not isinstance(found, h5d.DatasetID):
            continue
        _require_plain(found.get_type(), name)
        # Of an empty data space, h5py says None.
        shape = found.shape or ()
        if len(shape) > _MOST_DIMENSIONS:
            raise FormatError(
                f"Expected at most {_MOST_DIMENSIONS} dimensions; found {len(shape)}, at {name!r}. Leave it out."
            )
        declared = math.prod(shape) * found.get_type().get_size()
        stored = found.get_storage_size()
        if declared > max(_NEVER_TOO_MUCH, _BEST_COMPRESSION * stored):
            raise FormatError(
                f"Expected no more than {_BEST_COMPRESSION} times the {stored} bytes that are stored at {name!r}; "
                f"found that it declares {declared}, compressed over and over or never written. Leave it out."
            )
        total += declared
        if total > most_bytes:
            raise FormatError(
                f"Expected at most {most_bytes} bytes of data once they are read; found that it declares more, the "
                f"first of it at {name!r}. Leave out what mapping does not need, or map fewer cells at a time."
            )


def _require_plain(kind: h5py.h5t.TypeID, name: str) -> None:
    from h5py import h5t

    found = kind.get_class()
    if found == h5t.COMPOUND:
        for member in range(kind.get_nmembers()):
            _require_plain(kind.get_member_type(member), name)
    elif found == h5t.ARRAY:
        _require_plain(kind.get_super(), name)
    elif found not in (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM, h5t.BITFIELD):
        raise FormatError(
            f"Expected numbers and text alone; found values of another type (HDF5 class {found}), at {name!r}. "
            "Leave it out."
        )
