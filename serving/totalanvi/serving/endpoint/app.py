"""The endpoint's routes.

::

    POST /v1/map         a chunk of aligned cells, Arrow in, Arrow out (`totalanvi.serving.wire.chunks`)
    POST /v1/predict     a few cells as JSON
    POST /v1/files       a file of cells, an annotated copy or a table back (`totalanvi.serving.endpoint.files`)
    GET  /v1/files/{X-Request-ID}/progress   how far a file has come
    …    /v1/uploads     a file in steps (`totalanvi.serving.endpoint.files.keeping`)
    GET  /v1/references  what cells can be mapped to
    GET  /v1/info        a reference, and what the endpoint accepts
    GET  /v1/features    genes and proteins that chunks are aligned to, and their digest
    GET  /v1/labels      what a cell can be called
    GET  /v1/landmarks   places of a reference's own cells on its map: x and y of each, float32
    GET  /v1/openapi.json  all of this, for programs
    GET  /               a page that does all of this (`totalanvi.serving.endpoint.page`)
    GET  /metrics        for Prometheus
    /v2/…                the Open Inference Protocol (`totalanvi.serving.endpoint.inference_protocol.routes`)

Where a reference is meant, ``?reference=NAME`` or ``NAME@VERSION`` names one other than the default. ``/livez`` and
``/readyz`` are BentoML's own; see `totalanvi.serving.endpoint.service`. A body may be compressed
(``Content-Encoding: zstd``). Errors are ``{"error": {"type": …, "message": …}}``, with the classes of
`totalanvi.serving.errors` as types.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from totalanvi.serving.endpoint.answering import answering
from totalanvi.serving.endpoint.answers import JSON, refuse
from totalanvi.serving.endpoint.bodies import is_compressed, require_type
from totalanvi.serving.endpoint.draining import drain_before_end
from totalanvi.serving.endpoint.files.keeping import Uploads, upload_routes
from totalanvi.serving.endpoint.files.service import Files
from totalanvi.serving.endpoint.inference_protocol.routes import inference_routes
from totalanvi.serving.endpoint.jobs import chunk_job, json_job
from totalanvi.serving.endpoint.openapi import openapi
from totalanvi.serving.endpoint.page.routes import page_routes
from totalanvi.serving.endpoint.request_log import RequestLog
from totalanvi.serving.endpoint.routes import Asked, Endpoint, Understand
from totalanvi.serving.wire.chunks import MEDIA_TYPE

__all__ = ["create_app"]


def create_app(endpoint: Endpoint, drain_seconds: float = 0) -> Starlette:
    """Return the application that answers for an endpoint.

    Parameters
    ----------
    endpoint
        What computes the answers.
    drain_seconds
        See `totalanvi.serving.endpoint.draining.drain_before_end`.
    """
    limits = endpoint.limits
    files = Files(endpoint)
    uploads = Uploads(endpoint, files)

    async def compute(
        request: Request, route: str, understand: Understand, max_bytes: int, name: str | None
    ) -> Response:
        """Read the body, take a slot, and answer it."""
        compressed = is_compressed(request)
        # Before the body is sent: most of those that are refused need not send it.
        endpoint.queue.require_room()
        body = await endpoint.bodies.read(request, max_bytes)
        with endpoint.queue.admit() as slot:
            answer = await endpoint.answer_in(slot, Asked(route, understand, body, max_bytes, compressed, name))
            return Response(answer.content, headers=answer.headers, media_type=answer.media_type)

    async def map_chunk(request: Request) -> Response:
        require_type(request, MEDIA_TYPE)
        return await compute(request, "map", chunk_job, limits.max_body_bytes, _reference_of(request))

    async def predict(request: Request) -> Response:
        require_type(request, JSON)
        return await compute(request, "predict", json_job, limits.max_json_bytes, _reference_of(request))

    async def references(request: Request) -> Response:
        return Response(endpoint.listing(), media_type=JSON)

    async def info(request: Request) -> Response:
        return Response(endpoint.info(_reference_of(request)), media_type=JSON)

    async def features(request: Request) -> Response:
        return Response(endpoint.features(_reference_of(request)), media_type=JSON)

    async def labels(request: Request) -> Response:
        return Response(endpoint.labels(_reference_of(request)), media_type=JSON)

    async def landmarks(request: Request) -> Response:
        return Response(endpoint.landmarks(_reference_of(request)), media_type="application/octet-stream")

    async def description(request: Request) -> Response:
        return JSONResponse(openapi())

    async def metrics(request: Request) -> Response:
        return Response(endpoint.metrics.exposition(), media_type=endpoint.metrics.content_type)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        files.start()
        endpoint.start()
        drain_before_end(endpoint.queue, drain_seconds)
        yield
        endpoint.close()
        await uploads.close()
        files.close()

    routes = [
        Route("/v1/map", answering(endpoint, "map", map_chunk), methods=["POST"]),
        Route("/v1/predict", answering(endpoint, "predict", predict), methods=["POST"]),
        Route("/v1/files", answering(endpoint, "files", files.map, limits.file_seconds), methods=["POST"]),
        Route("/v1/files/{request_id}/progress", answering(endpoint, "progress", files.progress), methods=["GET"]),
        *upload_routes(endpoint, uploads),
        Route("/v1/references", answering(endpoint, "references", references), methods=["GET"]),
        Route("/v1/info", answering(endpoint, "info", info), methods=["GET"]),
        Route("/v1/features", answering(endpoint, "features", features), methods=["GET"]),
        Route("/v1/labels", answering(endpoint, "labels", labels), methods=["GET"]),
        Route("/v1/landmarks", answering(endpoint, "landmarks", landmarks), methods=["GET"]),
        Route("/v1/openapi.json", answering(endpoint, "openapi", description), methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        *inference_routes(endpoint, compute),
        *page_routes(),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(RequestLog)],
        exception_handlers={HTTPException: refuse},
        lifespan=lifespan,
    )


def _reference_of(request: Request) -> str | None:
    return request.query_params.get("reference")
