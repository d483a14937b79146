"""By what a query is known again when a job goes on: it need not be read for that, nor fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path

from totalanvi.serving.errors import QueryError
from totalanvi.serving.jobs.records import InputIdentity
from totalanvi.serving.jobs.remote import is_remote, remote_identity

__all__ = ["identity_of"]


def identity_of(address: str) -> InputIdentity:
    """Return what a query is known by: its file's name, its size, and when it was changed.

    Parameters
    ----------
    address
        See `totalanvi.serving.jobs.listed.Listed`.

    Raises
    ------
    QueryError
        When nothing is there.
    """
    if is_remote(address):
        return remote_identity(address)
    path = Path(address)
    try:
        if not path.is_dir():
            about = path.stat()
            return InputIdentity(file=path.name, bytes=about.st_size, stamp=f"mtime {about.st_mtime_ns}")
        files = {file.relative_to(path).as_posix(): file.stat() for file in sorted(path.rglob("*")) if file.is_file()}
    except OSError as error:
        raise QueryError(
            f"Expected a query; found nothing that can be read at {address!r} ({error.strerror}). Check the path."
        ) from error
    lines = [f"{name} {about.st_size} {about.st_mtime_ns}" for name, about in files.items()]
    return InputIdentity(
        file=path.name,
        bytes=sum(about.st_size for about in files.values()),
        stamp=f"files {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}",
    )
