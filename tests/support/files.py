"""What lies in a folder, and a disk that fills up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["contents", "file_size_limit", "listing"]


def listing(folder: Path) -> list[str]:
    """Names of what a folder holds, sorted."""
    return sorted(entry.name for entry in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and below it, by its path in there."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Make writing fail as it does when there is no room; on POSIX only."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
