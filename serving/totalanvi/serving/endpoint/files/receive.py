"""The body of an upload, written to disk as it arrives: the file itself, or a form with the file in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from totalanvi.serving.errors import DeadlineError, EndpointError, MediaTypeError, QueryError, TooLargeError

__all__ = ["no_room", "receive_file"]

_FORM = b"multipart/form-data"
_BUFFER_BYTES = 1 << 20
_FORM_BYTES = 1 << 16
"""For what a form holds beside the file."""
_SILENT_SECONDS = 30.0
"""Without a byte for so long, an upload is given up; after it, one that is slower than the next says."""
_SLOWEST_BYTES = 8192
"""A second: a place for a file is not to be kept by sending next to nothing."""

_log = logging.getLogger(__name__)


async def receive_file(request: Request, path: Path, max_bytes: int) -> None:
    """Write the file in a request's body to disk; of a form, its only file, whatever it is called there.

    Parameters
    ----------
    request
        Its body is not read yet.
    path
        Where to.
    max_bytes
        Of the file.

    Raises
    ------
    TooLargeError
        When it is larger.
    MediaTypeError
        When it is compressed once more; HDF5 files are.
    QueryError
        When a form holds no file, or more than one.
    DeadlineError
        When nothing arrives for long, or next to nothing.
    EndpointError
        When the disk is full.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise MediaTypeError(f"Expected a file as it is, found `Content-Encoding: {encoding}`; send it uncompressed.")
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes + (_FORM_BYTES if kind == _FORM else 0):
        raise _too_large(max_bytes)
    with path.open("wb") as file:
        if kind == _FORM:
            form = _Form(parameters.get(b"boundary", b""), file, max_bytes)
            await _copy(request, form.write)
            form.finish()
        else:
            await _copy(request, _Bounded(file, max_bytes).write)
    if not path.stat().st_size:
        raise QueryError(
            "Expected a file of cells (.h5ad, .h5mu or 10x .h5) as the body, found none; send it with curl -T FILE, or "
            "--form file=@FILE."
        )


async def _copy(request: Request, write: Callable[[bytes], None]) -> None:
    """Hand a body on, some of it at a time, in a thread: disks may keep one waiting."""
    buffer = bytearray()
    received, started = 0, time.monotonic()
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                block = await anext(stream, None)
        except TimeoutError as error:
            raise DeadlineError(
                f"Expected the file to arrive, found nothing of it for {_SILENT_SECONDS:g} s; send it again."
            ) from error
        if block is not None:
            buffer += block
            received += len(block)
            seconds = time.monotonic() - started
            if seconds > _SILENT_SECONDS and received < _SLOWEST_BYTES * seconds:
                raise DeadlineError(
                    f"Expected at least {_SLOWEST_BYTES} bytes of the file a second, found fewer; send it again over a "
                    "faster connection, or map it with `totalanvi map URL FILE`, which sends less."
                )
        if buffer and (block is None or len(buffer) >= _BUFFER_BYTES):
            try:
                await asyncio.to_thread(write, bytes(buffer))
            except OSError as error:
                raise no_room(error) from error
            buffer.clear()
        if block is None:
            return


def no_room(reason: object) -> EndpointError:
    """Return what a client is told when the endpoint cannot write; the log is told the reason."""
    _log.error("An uploaded file cannot be kept or answered: %s", reason)
    error = EndpointError("Expected room for the file, found too little at the endpoint; its operator makes room.")
    error.http_status = 507
    return error


class _Bounded:
    """Writes to a file as much as it may hold."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._written = 0

    def write(self, data: bytes) -> None:
        self._written += len(data)
        if self._written > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._file.write(data)


class _Form:
    """Takes a form apart as it arrives, and writes its file."""

    def __init__(self, boundary: bytes, file: IO[bytes], max_bytes: int) -> None:
        self._file = _Bounded(file, max_bytes)
        self._other_bytes = 0
        self._n_files = 0
        self._in_file = False
        self._ended = False
        self._header, self._value = b"", b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._take_name,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_part_data": self._take,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _no_form() from error

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _no_form() from error

    def finish(self) -> None:
        if not self._ended:
            raise _no_form()
        if self._n_files != 1:
            raise QueryError(
                f"Expected one file in the form, found {self._n_files or 'none'}; send one with --form file=@FILE, and "
                "options in the address (?impute=false)."
            )

    def _begin(self) -> None:
        self._in_file = False
        self._header, self._value = b"", b""

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            # What the file is called is never looked at.
            self._in_file = b"filename" in parse_options_header(self._value)[1]
            self._n_files += self._in_file
        self._header, self._value = b"", b""

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._in_file and self._n_files == 1:
            self._file.write(data[start:end])
            return
        self._other_bytes += end - start
        if self._other_bytes > _FORM_BYTES:
            raise QueryError("Expected nothing but one file in the form, found more; send the file alone.")

    def _end(self) -> None:
        self._ended = True


def _no_form() -> QueryError:
    return QueryError(
        "Expected a form (multipart/form-data) with one file in it, found a body that is none, or ends early; send the "
        "file with --form file=@FILE, or by itself with curl -T FILE."
    )


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"Expected a file of at most {max_bytes} bytes, found a larger one; send fewer cells at a time, or map it with "
        "`totalanvi map URL FILE`, which sends only what is needed."
    )
