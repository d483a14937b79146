"""Places that a user names to write to, judged before any work is done, and before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["no_folder", "obstacle"]

_TEMPORARY_BYTES = 10
"""By which the name is longer under which something is written at first."""


def obstacle(path: Path) -> str | None:
    """Say what is in the way of making a file or a folder with the folders above it; None if nothing is.

    Parameters
    ----------
    path
        Of what is to be made. It need not be missing: where a folder before a ``..`` is, it looks as if it were, and
        something would be found there as soon as the folders above it are made.

    Examples
    --------
    >>> obstacle(Path("missing/../reference"))
    "'missing' before '..', which is not there"
    """
    for place, part in enumerate(path.parts):
        before = Path(*path.parts[:place])
        if part == ".." and not os.path.lexists(before):
            return f"{str(before)!r} before '..', which is not there"
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        return f"{above}, which is a file"
    if not os.access(above, os.W_OK):
        return f"{above}, which may not be written"
    longest = os.pathconf(above, "PC_NAME_MAX") - _TEMPORARY_BYTES
    if any(len(os.fsencode(name)) > longest for name in path.absolute().relative_to(above).parts):
        return f"a name of more than {longest} bytes"
    return None


def no_folder(path: Path) -> str | None:
    """Say what is there that is no folder; None if it is one.

    Parameters
    ----------
    path
        Where something is, and be it a link.
    """
    if path.is_dir():
        return None
    return "a file" if path.exists() else "a link that leads nowhere"
