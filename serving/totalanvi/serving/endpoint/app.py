"""The endpoint's routes: bodies in, limits, errors to status codes, bodies out.

::

    POST /v1/map       a chunk of aligned cells, Arrow in, Arrow out (`totalanvi.serving.wire.chunks`)
    POST /v1/predict   a few cells as JSON
    POST /v1/files     a file of cells, an annotated copy or a table back (`totalanvi.serving.endpoint.files`)
    GET  /v1/files/{X-Request-ID}/progress   how far a file has come
    …    /v1/uploads   a file in steps (`totalanvi.serving.endpoint.files.keeping`)
    GET  /v1/info      the reference, and what the endpoint accepts
    GET  /v1/features  genes and proteins that chunks are aligned to, and their digest
    GET  /v1/labels    what a cell can be called
    GET  /v1/landmarks places of the reference's own cells on its map: x and y of each, float32
    GET  /             a page that does all of this (`totalanvi.serving.endpoint.page`)
    GET  /metrics      for Prometheus

``/livez`` and ``/readyz`` are BentoML's own; see `totalanvi.serving.endpoint.service`. A body may be compressed
(``Content-Encoding: zstd``). Errors are ``{"error": {"type": …, "message": …}}``, with the classes of
`totalanvi.serving.errors` as types.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from totalanvi.serving.endpoint.answers import JSON, error_answer
from totalanvi.serving.endpoint.files.keeping import Uploads
from totalanvi.serving.endpoint.files.service import Files
from totalanvi.serving.endpoint.page.routes import page_routes
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import DeadlineError, EndpointError, MediaTypeError, ServingError, TooLargeError
from totalanvi.serving.wire.chunks import MEDIA_TYPE

__all__ = ["create_app"]

Handler = Callable[[Request], Awaitable[Response]]

_CLIENT_GONE = 499

_log = logging.getLogger(__name__)


def create_app(endpoint: Endpoint) -> Starlette:
    """Return the application that answers for an endpoint."""
    limits = endpoint.limits
    files = Files(endpoint)
    uploads = Uploads(endpoint, files)

    async def map_chunk(request: Request) -> Response:
        _require_type(request, MEDIA_TYPE)
        return await _compute(endpoint, request, limits.max_body_bytes, endpoint.map_chunk, MEDIA_TYPE)

    async def predict(request: Request) -> Response:
        _require_type(request, JSON)
        return await _compute(endpoint, request, limits.max_json_bytes, endpoint.predict, JSON)

    async def info(request: Request) -> Response:
        return Response(endpoint.info(), media_type=JSON)

    async def features(request: Request) -> Response:
        return Response(endpoint.features(), media_type=JSON)

    async def labels(request: Request) -> Response:
        return Response(endpoint.labels(), media_type=JSON)

    async def landmarks(request: Request) -> Response:
        return Response(endpoint.landmarks(), media_type="application/octet-stream")

    async def metrics(request: Request) -> Response:
        return Response(endpoint.metrics.exposition(), media_type=endpoint.metrics.content_type)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = error_answer(EndpointError(f"{request.method} {request.url.path}: {error.detail}."))
        answer.status_code = error.status_code
        answer.headers.update(error.headers or {})
        return answer

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        files.start()
        endpoint.start()
        yield
        endpoint.close()
        await uploads.close()
        files.close()

    routes = [
        Route("/v1/map", _answering(endpoint, "map", map_chunk), methods=["POST"]),
        Route("/v1/predict", _answering(endpoint, "predict", predict), methods=["POST"]),
        Route("/v1/files", _answering(endpoint, "files", files.map, limits.file_seconds), methods=["POST"]),
        Route("/v1/files/{request_id}/progress", _answering(endpoint, "progress", files.progress), methods=["GET"]),
        *_upload_routes(endpoint, uploads),
        Route("/v1/info", _answering(endpoint, "info", info), methods=["GET"]),
        Route("/v1/features", _answering(endpoint, "features", features), methods=["GET"]),
        Route("/v1/labels", _answering(endpoint, "labels", labels), methods=["GET"]),
        Route("/v1/landmarks", _answering(endpoint, "landmarks", landmarks), methods=["GET"]),
        *page_routes(),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refuse}, lifespan=lifespan)


def _upload_routes(endpoint: Endpoint, uploads: Uploads) -> list[Route]:
    seconds = endpoint.limits.file_seconds

    def route(path: str, handler: Handler, method: str) -> Route:
        return Route(f"/v1/uploads{path}", _answering(endpoint, "uploads", handler, seconds), methods=[method])

    return [
        route("", uploads.upload, "POST"),
        route("/{id}/map", uploads.map, "POST"),
        route("/{id}", uploads.state, "GET"),
        route("/{id}", uploads.remove, "DELETE"),
        route("/{id}/{part}", uploads.part, "GET"),
    ]


async def _compute(
    endpoint: Endpoint,
    request: Request,
    max_bytes: int,
    work: Callable[[bytes, bool], bytes],
    media_type: str,
) -> Response:
    """Take a slot, read the body, and compute the answer in a thread."""
    compressed = _is_compressed(request)
    with endpoint.queue.admit() as slot:
        body = await _read_body(request, max_bytes)
        return Response(await slot.run(lambda: work(body, compressed)), media_type=media_type)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes, f"{announced} bytes")
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > max_bytes:
            raise _too_large(max_bytes, "more")
    return bytes(body)


def _too_large(max_bytes: int, found: str) -> TooLargeError:
    return TooLargeError(f"Expected a body of at most {max_bytes} bytes, found {found}; send fewer cells at a time.")


def _require_type(request: Request, expected: str) -> None:
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != expected:
        raise MediaTypeError(
            f"{request.url.path}: expected the header `Content-Type: {expected}`, found {found or 'none'!r}; "
            "set it, and send the body in that format."
        )


def _is_compressed(request: Request) -> bool:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "zstd"):
        raise MediaTypeError(f"Expected `Content-Encoding: zstd` or none, found {encoding!r}; compress with zstd.")
    return encoding == "zstd"


def _answering(endpoint: Endpoint, route: str, handler: Handler, seconds: float | None = None) -> Handler:
    """Wrap a handler so that every request is counted and every failure answered, in time."""
    seconds = endpoint.limits.request_seconds if seconds is None else seconds

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                response = await handler(request)
        except TimeoutError:
            response = error_answer(
                DeadlineError(
                    f"Expected an answer within {seconds:g} s, found none; "
                    "send fewer cells at a time, or ask for fewer samples."
                )
            )
        except ServingError as error:
            response = error_answer(error)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_GONE)
        except Exception as error:
            response = _fault_answer(route, error)
        endpoint.metrics.answered(route, response.status_code, time.perf_counter() - started)
        return response

    return answer


def _fault_answer(route: str, error: Exception) -> Response:
    """Answer for a fault of ours. The log says where it arose; what it says may hold a client's data."""
    steps = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{step.name} ({step.filename}:{step.lineno})" for step in reversed(steps))
    _log.error("%s failed with %s in %s", route, type(error).__name__, where)
    fault = EndpointError("The endpoint failed at this request; its operator finds where in the server's log.")
    answer = error_answer(fault)
    answer.status_code = 500
    return answer
