"""Files in steps, for people who want to look before they wait: ``/v1/uploads``.

::

    POST   /v1/uploads                  a file; its id, and how its names match the reference's
    POST   /v1/uploads/{id}/map         begin to map it
    GET    /v1/uploads/{id}             how far it has come; the error that ended it, if one did
    GET    /v1/uploads/{id}/cells       what its cells were mapped to (`totalanvi.serving.endpoint.files.columns`)
    GET    /v1/uploads/{id}/proteins    their proteins; a range of bytes is one of them
    GET    /v1/uploads/{id}/annotated   the annotated copy
    GET    /v1/uploads/{id}/parquet     the table
    GET    /v1/uploads/{id}/csv         the table as text
    GET    /v1/uploads/{id}/report      the page about it, as `totalanvi report` writes it
    DELETE /v1/uploads/{id}             remove all of it

A file is uploaded once and mapped once: a copy is annotated with what is known by then. It belongs to the key that
sent it, and is removed when nobody asks for it for a while, and when the endpoint ends.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from totalanvi.serving.endpoint.answering import Handler, answering
from totalanvi.serving.endpoint.answers import JSON
from totalanvi.serving.endpoint.files.job import CELLS, PROTEINS, QUERY, RESULT, FileOptions, Task
from totalanvi.serving.endpoint.files.receive import receive_file
from totalanvi.serving.endpoint.files.schemas import UploadAnswer, UploadState
from totalanvi.serving.endpoint.files.sent import SentFile
from totalanvi.serving.endpoint.files.service import Files, file_options, unless_gone
from totalanvi.serving.endpoint.files.shelf import Kept, Shelf
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import DeadlineError, QueryError

__all__ = ["PARTS", "Uploads", "upload_routes"]

_MADE_WHILE_MAPPING = {"cells": CELLS, "proteins": PROTEINS, "parquet": f"{RESULT}.parquet"}
_MADE_WHEN_ASKED_FOR: dict[str, Task] = {"annotated": "copy", "csv": "csv", "report": "report"}
_SUFFIXES: dict[Task, tuple[str, ...]] = {"copy": (".h5ad", ".h5mu"), "csv": (".csv",), "report": (".html",)}
PARTS = (*_MADE_WHILE_MAPPING, *_MADE_WHEN_ASKED_FOR)


class Uploads:
    """Files that stay, and what is done with them.

    Parameters
    ----------
    endpoint
        Has the reference, and the limits.
    files
        Has the processes that read them.
    """

    def __init__(self, endpoint: Endpoint, files: Files) -> None:
        self._endpoint = endpoint
        self._limits = endpoint.limits
        self._files = files
        self._shelf = Shelf(self._limits, files.room)

    async def close(self) -> None:
        """Remove all of them."""
        await self._shelf.close()

    async def upload(self, request: Request) -> Response:
        """Answer ``POST /v1/uploads``.

        Raises
        ------
        ServingError
            Whatever is wrong with request or file; nothing stays then.
        """
        options = self._options(request)
        announced = request.headers.get("content-length", "")
        expected = int(announced) if announced.isdecimal() else self._limits.max_file_bytes
        # What is too large is refused as such, below.
        kept = self._shelf.place(min(expected, self._limits.max_file_bytes))
        try:
            with kept.lent():
                await receive_file(request, kept.folder / QUERY, self._limits.max_file_bytes)
                made = await unless_gone(request, self._do(kept, "look", options))
                said = json.loads(await asyncio.to_thread(made.read_bytes))
        except BaseException:
            await self._shelf.remove(kept)
            raise
        kept.stage, kept.total = "uploaded", said["n_cells"]
        return _json(UploadAnswer(**self._state(kept).model_dump(), preview=said), 201)

    async def map(self, request: Request) -> Response:
        """Answer ``POST /v1/uploads/{id}/map``.

        Raises
        ------
        QueryError
            When there is no such file, or it is being mapped.
        """
        kept = self._shelf.find(request.path_params["id"])
        options = self._options(request)
        if kept.busy:
            raise _conflict("Expected a file with which nothing is done, found that it is at work; wait until it ends.")
        kept.stage, kept.cells, kept.options = "waiting", 0, options
        kept.work = asyncio.create_task(self._show(kept, options))
        # What goes wrong is told to whoever asks, and to nobody when nobody does.
        kept.work.add_done_callback(lambda work: work.cancelled() or work.exception())
        return _json(self._state(kept), 202)

    async def state(self, request: Request) -> Response:
        """Answer ``GET /v1/uploads/{id}``.

        Raises
        ------
        ServingError
            What ended the mapping, as often as it is asked for.
        """
        kept = self._shelf.find(request.path_params["id"])
        if kept.work is not None and kept.work.done():
            kept.work.result()
        return _json(self._state(kept))

    async def part(self, request: Request) -> Response:
        """Answer ``GET /v1/uploads/{id}/{part}``.

        Raises
        ------
        ServingError
            When the file is not mapped, or what is asked for cannot be made.
        """
        kept, part = self._shelf.find(request.path_params["id"]), request.path_params["part"]
        if part not in PARTS:
            error = QueryError(f"Expected one of {', '.join(PARTS)}, found {part!r}; ask for one of these.")
            error.http_status = 404
            raise error
        if kept.work is None or not kept.work.done():
            raise _conflict("Expected a file that is mapped, found one that is not yet; wait until it is.")
        kept.work.result()
        with kept.lent() as stay:
            if part in _MADE_WHILE_MAPPING:
                path = kept.folder / _MADE_WHILE_MAPPING[part]
            else:
                path = await unless_gone(request, self._make(kept, _MADE_WHEN_ASKED_FOR[part]))
            return SentFile(path, stay.pop_all(), self._limits.file_seconds)

    async def remove(self, request: Request) -> Response:
        """Answer ``DELETE /v1/uploads/{id}``.

        Raises
        ------
        QueryError
            When there is no such file.
        """
        await self._shelf.remove(self._shelf.find(request.path_params["id"]))
        return Response(status_code=204)

    async def _show(self, kept: Kept, options: FileOptions) -> None:
        """Map a file into what can be shown of it."""
        async with kept.lock:
            for made in kept.folder.glob(f"{RESULT}.*"):
                made.unlink()
            try:
                async with asyncio.timeout(self._limits.file_seconds):
                    await self._do(kept, "show", options)
            except TimeoutError as error:
                raise DeadlineError(
                    f"Expected a file that can be mapped within {self._limits.file_seconds:g} s, found that it takes "
                    "longer; send fewer cells."
                ) from error
        kept.stage = "mapped"

    async def _make(self, kept: Kept, task: Task) -> Path:
        """Make something of a mapped file, unless that was done before."""
        async with kept.lock:
            for suffix in _SUFFIXES[task]:
                made = kept.folder / f"{RESULT}{suffix}"
                if made.exists():
                    return made
            made = await self._do(kept, task, kept.options)
            kept.stage = "mapped"
            return made

    async def _do(self, kept: Kept, task: Task, options: FileOptions) -> Path:
        """Have something done by a process that reads the file, and weigh what comes of it."""
        kept.stage = "waiting"
        job = self._files.job(options, "annotated")
        most = min(job.output_bytes, max(1, self._shelf.bytes_left))
        async with self._files.at_work:
            kept.stage = "reading"
            job = job.model_copy(update={"task": task, "output_bytes": most})
            made = await self._files.run(job, kept.folder, kept.mapped)
        await self._shelf.weigh(kept)
        return made

    def _options(self, request: Request) -> FileOptions:
        """Read how a file is to be mapped; the reference by its full name, as the default one may be another soon."""
        options = file_options(request.query_params)
        offer = self._endpoint.references.find(options.reference)
        return options.model_copy(update={"reference": offer.full_name})

    def _state(self, kept: Kept) -> UploadState:
        return UploadState(
            id=kept.id,
            stage=kept.stage,
            cells=kept.cells,
            total=kept.total,
            kept_seconds=self._limits.kept_seconds,
        )


def upload_routes(endpoint: Endpoint, uploads: Uploads) -> list[Route]:
    """Return the routes of files in steps."""
    seconds = endpoint.limits.file_seconds

    def route(path: str, handler: Handler, method: str) -> Route:
        return Route(f"/v1/uploads{path}", answering(endpoint, "uploads", handler, seconds), methods=[method])

    return [
        route("", uploads.upload, "POST"),
        route("/{id}/map", uploads.map, "POST"),
        route("/{id}", uploads.state, "GET"),
        route("/{id}", uploads.remove, "DELETE"),
        route("/{id}/{part}", uploads.part, "GET"),
    ]


def _json(body: UploadState, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type=JSON)


def _conflict(message: str) -> QueryError:
    error = QueryError(message)
    error.http_status = 409
    return error
