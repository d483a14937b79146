"""Queries elsewhere: what an address leads to (anything that fsspec knows), and a copy of it here while it is read."""

from __future__ import annotations

import errno
import hashlib
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from totalanvi.formats.stores import MATRIX_FILES, ZARR_ROOTS
from totalanvi.serving.errors import OutputError, QueryError
from totalanvi.serving.jobs.records import InputIdentity
from totalanvi.serving.jobs.suffixes import QUERY_SUFFIXES

__all__ = ["download", "is_remote", "local_path", "matching", "read_text", "remote_identity", "remote_name", "shown"]

_FOLDERS = ("/", ".zarr")
"""How an address of a folder ends. Servers of plain files cannot be asked whether something is one."""

_STAMPS = ("ETag", "etag", "md5Hash", "Content-MD5", "content_md5", "mtime", "LastModified", "last_modified", "updated")
"""What servers and object stores call a tag of a file's content, or the time of its last change."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""How a system says that a disk is full, or a file as large as it may be."""


def is_remote(word: str) -> bool:
    """Tell an address from a path.

    Examples
    --------
    >>> is_remote("s3://lab/donor1.h5ad"), is_remote("data/donor1.h5ad")
    (True, False)
    """
    return "://" in word


def local_path(address: str) -> Path | None:
    """Return the path that an address such as ``file:///data/donor1.h5ad`` stands for; None where it is elsewhere."""
    from fsspec.implementations.local import LocalFileSystem

    with _asking(address) as (system, path):
        return Path(path) if isinstance(system, LocalFileSystem) else None


def shown(address: str) -> str:
    """Return an address as it may be written down: without a password, and of what follows ``?`` a digest alone.

    A path stays what it is.

    Examples
    --------
    >>> shown("https://me:secret@host/donor1.h5ad?token=abc")
    'https://host/donor1.h5ad?…906b1a00'
    """
    if not is_remote(address):
        return address
    # By hand: the standard library raises for some addresses, and takes ``#`` in a store's names for an end.
    plain, _, query = address.partition("?")
    plain = re.sub(r"://[^/]*@", "://", plain)
    return f"{plain}?…{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else plain


def remote_name(address: str) -> str:
    """Return the name of the file or folder that an address leads to.

    Examples
    --------
    >>> remote_name("https://host/runs/donor%201.h5ad?token=abc"), remote_name("s3://lab/donor2.zarr/")
    ('donor 1.h5ad', 'donor2.zarr')
    """
    name = posixpath.basename(unquote(_path(address)).rstrip("/"))
    return "query" if name in ("", ".", "..") else name


def _path(address: str) -> str:
    """Return what follows the host, or the bucket, without what follows ``?``; of a path, all of it."""
    plain = address.partition("?")[0]
    return plain.partition("://")[2].partition("/")[2] if is_remote(plain) else plain


def matching(address: str) -> list[str]:
    """List the queries that an address with ``*`` stands for, or the folder that it leads to; sorted.

    Raises
    ------
    QueryError
        When it cannot be looked at.
    """
    with _asking(address) as (system, path):
        system.invalidate_cache()
        if "*" in _path(address):
            return sorted(system.unstrip_protocol(found) for found in system.glob(path))
        if not address.endswith("/"):
            return [address]
        inside = {found.rstrip("/"): remote_name(found) for found in system.ls(path, detail=False)}
        if set(inside.values()) & {*ZARR_ROOTS, *MATRIX_FILES}:
            return [address]
        return sorted(system.unstrip_protocol(found) for found, name in inside.items() if name.endswith(QUERY_SUFFIXES))


def read_text(address: str) -> str:
    """Read a small file of text.

    Raises
    ------
    QueryError
        When it cannot be read.
    """
    with _asking(address) as (system, path):
        content: bytes = system.cat_file(path)
        return content.decode("utf-8-sig")


def remote_identity(address: str) -> InputIdentity:
    """Return by what a query is known again, without reading it.

    Raises
    ------
    QueryError
        When nothing is there.
    """
    with _asking(address) as (system, path):
        system.invalidate_cache()
        if address.endswith(_FOLDERS):
            found = system.find(path, detail=True)
            lines = [f"{name} {each.get('size')} {_stamp(each)}" for name, each in sorted(found.items())]
            stamp = hashlib.sha256("\n".join(lines).encode()).hexdigest()
            size = sum(each.get("size") or 0 for each in found.values())
            return InputIdentity(file=remote_name(address), bytes=size, stamp=f"files {stamp}")
        about = system.info(path)
        return InputIdentity(file=remote_name(address), bytes=about.get("size"), stamp=_stamp(about))


def download(address: str, room: Path) -> Path:
    """Copy a query here, streamed, and return where it is.

    Parameters
    ----------
    address
        A file, or a folder (see `matching`).
    room
        An empty folder of its own.

    Raises
    ------
    QueryError
        When it cannot be read, or came short.
    OutputError
        When there is no room for it.
    """
    target = room / re.sub(r"[/\\\0]", "_", remote_name(address))
    with _asking(address) as (system, path):
        if address.endswith(_FOLDERS):
            places = _places(address, path, system.find(path), target)
            # Place by place: listed once more, a server might name others.
            system.get(list(places), [str(place) for place in places.values()])
            return target
        size = system.info(path).get("size")
        system.get_file(path, str(target))
    if size is not None and target.stat().st_size != size:
        raise QueryError(
            f"Expected {size:,} bytes of {shown(address)!r}; found {target.stat().st_size:,}: it changed meanwhile, or "
            f"the connection was lost. Go on with the job to fetch it again."
        )
    return target


def _places(address: str, path: str, names: list[str], target: Path) -> dict[str, Path]:
    """Say where each file of a folder is copied to; to an object store, dots that lead out of it are but letters."""
    root = path.rstrip("/") + "/"
    places: dict[str, Path] = {}
    for name in names:
        if name.endswith("/"):  # what some stores keep in the place of an empty folder
            continue
        inside = name.removeprefix(root).replace("\\", "/")
        if not name.startswith(root) or {"", ".", ".."} & set(inside.split("/")):
            raise QueryError(
                f"Expected files in {shown(address)!r} that are in no folder above; found {shown(name)!r}. Ask who "
                f"made it."
            )
        places[name] = target / inside
    return places


def _without_secrets(text: str) -> str:
    """Take passwords, and what follows ``?``, out of the addresses in a text; libraries spell these their own way."""
    return re.sub(r"\w+://[^\s'\"<>]+", lambda found: shown(found[0]), text)


def _stamp(about: dict[str, Any]) -> str:
    found = next((f"{key} {about[key]}" for key in _STAMPS if about.get(key)), "")
    return found or "size alone"


@contextmanager
def _asking(address: str) -> Iterator[tuple[Any, str]]:
    """Give the file system behind an address and the path there; whatever goes wrong names the address."""
    try:
        from fsspec.core import url_to_fs

        yield url_to_fs(address)
    except QueryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise OutputError(
                f"Expected room for a copy of {shown(address)!r}; found none ({error.strerror}). Make some, or choose "
                f"another place for the job."
            ) from error
        said = _without_secrets(str(error) or type(error).__name__).splitlines()[0]
        raise QueryError(
            f"Expected to read {shown(address)!r}; found that this fails ({type(error).__name__}: {said}). Check the "
            f"address, what may be read there, and whether the package for its protocol is installed."
        ) from error
