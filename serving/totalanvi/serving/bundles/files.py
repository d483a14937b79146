"""The files of a bundle, each held against its record of size and digest."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

from totalanvi.serving.bundles.manifest import FileRecord
from totalanvi.serving.errors import BundleError

__all__ = ["hash_file", "hash_files", "inside", "verify"]

_BLOCK_BYTES = 1 << 20


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Return size and digest of files of a bundle in the making, for `Manifest.files`.

    Raises
    ------
    BundleError
        When a file is missing.
    """
    return {name: hash_file(inside(folder, name)) for name in names}


def inside(folder: Path, name: str) -> Path:
    """Return a file's path, refusing what is no regular file or lies outside the folder once links are followed.

    Raises
    ------
    BundleError
        When there is no such file.
    """
    file = folder / name
    try:
        real = file.resolve(strict=True)
        regular = stat.S_ISREG(real.stat().st_mode)
    except OSError as error:
        raise BundleError(f"{folder}: expected the file {name!r}, found it missing; copy or export again.") from error
    if not regular or folder.resolve() not in real.parents:
        raise BundleError(
            f"{folder}: expected {name!r} to be a file in this folder, found another kind or a link out; copy or "
            "export again."
        )
    return file


def hash_file(file: Path) -> FileRecord:
    """Return size and digest of a file.

    Raises
    ------
    BundleError
        When it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); check its permissions.") from error
    return FileRecord(sha256=digest.hexdigest(), bytes=size)


def verify(folder: Path, name: str, expected: FileRecord, found: FileRecord) -> None:
    """Refuse a file that is not what its record says.

    Raises
    ------
    BundleError
        When size or digest differ.
    """
    if found.bytes != expected.bytes:
        raise BundleError(
            f"{folder}: {name!r} has been altered: expected {expected.bytes} bytes, found {found.bytes}; "
            "copy the bundle again, or export again."
        )
    if found.sha256 != expected.sha256:
        raise BundleError(
            f"{folder}: {name!r} has been altered: expected SHA-256 {expected.sha256[:12]}…, found "
            f"{found.sha256[:12]}…; copy the bundle again, or export again."
        )
