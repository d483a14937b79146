"""A file as an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

__all__ = ["PARQUET", "SentFile"]

PARQUET = "application/vnd.apache.parquet"
_KINDS = {
    ".parquet": PARQUET,
    ".h5ad": "application/x-hdf5",
    ".h5mu": "application/x-hdf5",
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".bin": "application/octet-stream",
}


class SentFile(FileResponse):
    """Sends a file, or the range of it that is asked for, and ends the file's stay however the sending ends.

    Parameters
    ----------
    path
        The file; its suffix tells its kind.
    stay
        What ends.
    seconds
        Time to send it.
    headers
        More of them.
    """

    def __init__(self, path: Path, stay: ExitStack, seconds: float, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(path, media_type=_KINDS[path.suffix], filename=path.name, headers=headers)
        self._stay = stay
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        finally:
            await asyncio.to_thread(self._stay.close)
