"""Files of cells, from their first byte to the annotated copy: ``POST /v1/files``, and how far one has come."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from totalanvi.serving.endpoint.access.account import account_name
from totalanvi.serving.endpoint.answers import JSON
from totalanvi.serving.endpoint.files.job import QUERY, FileJob, FileOptions, FileOutput
from totalanvi.serving.endpoint.files.process import run_job
from totalanvi.serving.endpoint.files.receive import receive_file
from totalanvi.serving.endpoint.files.rooms import UPLOADS_VARIABLE, Rooms
from totalanvi.serving.endpoint.files.sent import PARQUET, SentFile
from totalanvi.serving.endpoint.jobs import chunk_job
from totalanvi.serving.endpoint.request_log import REQUEST_ID, request_id
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import BusyError, EndpointError, QueryError

__all__ = ["ARRIVING_PER_FILE", "Files", "file_options", "unless_gone"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
ARRIVING_PER_FILE = 4
"""Files that arrive, wait, are mapped and sent at a time, for each that is mapped."""
_CHUNK_CELLS = 4096
_BUSY_SECONDS = 5
_WAIT_SECONDS = 0.2


@dataclass
class _Progress:
    """How far a file has come, and whose it is."""

    owner: str | None
    stage: str = "receiving"
    cells: int = 0
    total: int | None = None

    def mapped(self, done: int, total: int) -> None:
        self.stage, self.cells, self.total = "writing" if done == total else "mapping", done, total


class Files:
    """Maps uploaded files for an endpoint.

    Parameters
    ----------
    endpoint
        Has the reference, and computes.

    Attributes
    ----------
    at_work : asyncio.Semaphore
        To be held while a file's process runs: there are only so many.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._limits = endpoint.limits
        self.at_work = asyncio.Semaphore(self._limits.max_files)
        self._running: dict[str, _Progress] = {}
        self._rooms: Rooms | None = None

    def start(self) -> None:
        """Remove what an endpoint that crashed has left, and make room.

        Raises
        ------
        SettingsError
            When there is none.
        """
        parent = os.environ.get(UPLOADS_VARIABLE) or Path(tempfile.gettempdir(), f"totalanvi-uploads-{_user()}")
        self._rooms = Rooms(Path(parent))

    def room(self) -> AbstractContextManager[Path]:
        """Give a new folder that only this user can look into."""
        assert self._rooms is not None
        return self._rooms.room()

    def close(self) -> None:
        """Remove all that was uploaded."""
        if self._rooms is not None:
            self._rooms.close()

    async def map(self, request: Request) -> Response:
        """Answer ``POST /v1/files``.

        Raises
        ------
        ServingError
            Whatever is wrong with request or file.
        """
        options = file_options(request.query_params)
        self._endpoint.info(options.reference)  # raises while there is no such reference
        output = options.output or _accepted(request.headers.get("accept", ""))
        with ExitStack() as stay:
            name, progress = stay.enter_context(self._place(request))
            folder = stay.enter_context(self.room())
            await receive_file(request, folder / QUERY, self._limits.max_file_bytes)
            progress.stage = "waiting"
            async with self.at_work:
                progress.stage = "reading"
                made = await unless_gone(request, self.run(self.job(options, output), folder, progress.mapped))
            progress.stage = "sending"
            # The answer ends the stay, once it was sent.
            return SentFile(made, stay.pop_all(), self._limits.file_seconds, {REQUEST_ID: name})

    async def progress(self, request: Request) -> Response:
        """Answer ``GET /v1/files/{request_id}/progress``, to the key that sent the file.

        Raises
        ------
        QueryError
            When there is no such file, or no longer.
        """
        found = self._running.get(request.path_params["request_id"])
        if found is None or found.owner != account_name():
            error = QueryError("Expected the X-Request-ID of a file that is at work, found none such; it may be done.")
            error.http_status = 404
            raise error
        told = {"stage": found.stage, "cells": found.cells, "total": found.total}
        return Response(json.dumps(told), media_type=JSON)

    @contextmanager
    def _place(self, request: Request) -> Iterator[tuple[str, _Progress]]:
        """Take a place among the files at work, under the client's name for the request, or one of ours."""
        most, owner = self._limits.max_files * ARRIVING_PER_FILE, account_name()
        own = sum(progress.owner == owner for progress in self._running.values())
        if len(self._running) >= most or (owner is not None and own >= most // 2):
            raise BusyError(
                f"Expected at most {most} files at a time, and {most // 2} of one key, found as many; ask again in "
                f"{_BUSY_SECONDS} s.",
                retry_after=_BUSY_SECONDS,
            )
        name = request.headers.get(REQUEST_ID) or request_id() or secrets.token_urlsafe(16)
        if not _REQUEST_ID.fullmatch(name) or name in self._running:
            raise QueryError(
                f"{REQUEST_ID}: expected 8 to 64 letters, digits, '-' and '_' that no other file at work has, "
                "found something else; choose another, or leave it out."
            )
        self._running[name] = _Progress(owner)
        try:
            yield name, self._running[name]
        finally:
            del self._running[name]

    def job(self, options: FileOptions, output: FileOutput) -> FileJob:
        """Return what to do with a file, within the endpoint's limits."""
        limits = self._limits
        return FileJob(
            options=options,
            output=output,
            chunk_cells=min(_CHUNK_CELLS, limits.max_cells),
            max_cells=limits.max_file_cells,
            max_inflated_bytes=limits.max_file_inflated_bytes,
            memory_bytes=limits.file_memory_bytes,
            cpu_seconds=math.ceil(limits.file_seconds),
            output_bytes=limits.max_file_bytes + limits.max_file_inflated_bytes,
        )

    async def run(self, job: FileJob, folder: Path, mapped: Callable[[int, int], None]) -> Path:
        """Do a job in a process of its own; see `totalanvi.serving.endpoint.files.process.run_job`."""
        # A question is a route and a body; some bytes more do no harm.
        return await run_job(job, folder, self._limits.max_body_bytes + 1024, self._answer, mapped)

    async def _answer(self, path: str, body: bytes) -> bytes:
        """Answer what the process that reads a file asks of the endpoint."""
        route, _, query = path.partition("?")
        reference = dict(parse_qsl(query)).get("reference")
        if route == "/v1/info":
            return self._endpoint.info(reference)
        if route == "/v1/features":
            return self._endpoint.features(reference)
        if route == "/v1/landmarks":
            return self._endpoint.landmarks(reference)
        if route != "/v1/map":
            raise EndpointError(f"{route}: expected a route that files need, found another.")
        while True:
            try:
                return (await self._endpoint.answer("files", chunk_job, body)).content
            except BusyError as error:
                if type(error) is not BusyError:
                    raise  # of a quota, which no waiting helps
            # The file has its place already; its chunks wait for theirs until its time is up.
            await asyncio.sleep(_WAIT_SECONDS)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Path]) -> Path:
    """Wait for work, and stop it when the client hangs up."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def file_options(query: Mapping[str, str]) -> FileOptions:
    """Read what an address says behind ``?``.

    Raises
    ------
    QueryError
        When that is not known, or has no such value.
    """
    try:
        return FileOptions.model_validate(dict(query))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        known = ", ".join(sorted(FileOptions.model_fields))
        raise QueryError(
            f"Expected options behind `?` in the address ({known}), found at {first['loc'][0]!r}: {first['msg']}."
        ) from error


def _accepted(accept: str) -> FileOutput:
    kinds = {entry.partition(";")[0].strip().lower() for entry in accept.split(",")}
    return "parquet" if PARQUET in kinds else "annotated"


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else "user"
