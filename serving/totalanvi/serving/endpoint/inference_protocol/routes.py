"""Routes of the Open Inference Protocol, version 2.

::

    GET  /v2                                              what answers
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/NAME[/versions/VERSION]               inputs and outputs of a reference
    GET  /v2/models/NAME[/versions/VERSION]/ready
    POST /v2/models/NAME[/versions/VERSION]/infer         dense counts in, results out
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.endpoint.answering import answering
from totalanvi.serving.endpoint.answers import JSON
from totalanvi.serving.endpoint.bodies import require_plain
from totalanvi.serving.endpoint.inference_protocol.jobs import HEADER_LENGTH, inference_job, output_shape, outputs_of
from totalanvi.serving.endpoint.inference_protocol.schemas import ModelMetadata, ServerMetadata, TensorMetadata
from totalanvi.serving.endpoint.routes import Endpoint, Understand
from totalanvi.serving.errors import QueryError
from totalanvi.serving.version import software_version

__all__ = ["Compute", "inference_routes"]

Compute = Callable[[Request, str, Understand, int, str | None], Awaitable[Response]]
"""Answers a request: its route's name, what understands its body, how long that may be, and the reference's name."""

_EXTENSIONS = ["binary_tensor_data"]
_TYPES = {"label": "BYTES", "guess": "BYTES", "certain": "BYTES", "label_set": "BOOL"}


def inference_routes(endpoint: Endpoint, compute: Compute) -> list[Route]:
    """Return the routes.

    Parameters
    ----------
    endpoint
        Whose references are the protocol's models.
    compute
        Answers requests with cells, as on every other route.
    """
    limits = endpoint.limits

    async def server(request: Request) -> Response:
        return _json(ServerMetadata(name="totalanvi", version=software_version(), extensions=_EXTENSIONS))

    async def live(request: Request) -> Response:
        return Response()

    async def ready(request: Request) -> Response:
        return Response(status_code=200 if endpoint.ready else 503)

    async def model(request: Request) -> Response:
        return _json(_metadata(endpoint, endpoint.references.find(_name_of(request)).info))

    async def model_ready(request: Request) -> Response:
        endpoint.references.find(_name_of(request))
        return Response(status_code=200 if endpoint.ready else 503)

    async def infer(request: Request) -> Response:
        require_plain(request)
        length = _header_length(request)
        max_bytes = limits.max_json_bytes if length is None else limits.max_body_bytes
        return await compute(request, "infer", inference_job(length), max_bytes, _name_of(request))

    def route(path: str, name: str, handler: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        return Route(path, answering(endpoint, name, handler, plain_errors=True), methods=[method])

    routes = [
        route("/v2", "v2", server),
        route("/v2/health/live", "v2_live", live),
        route("/v2/health/ready", "v2_ready", ready),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            route(path, "v2_model", model),
            route(f"{path}/ready", "v2_model_ready", model_ready),
            route(f"{path}/infer", "infer", infer, "POST"),
        ]
    return routes


def _name_of(request: Request) -> str:
    name, version = request.path_params["name"], request.path_params.get("version")
    return str(name) if version is None else f"{name}@{version}"


def _header_length(request: Request) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal():
        raise QueryError(f"{HEADER_LENGTH}: expected the number of bytes of the JSON, found {text[:20]!r}.")
    return int(text)


def _metadata(endpoint: Endpoint, info: ReferenceInfo) -> ModelMetadata:
    offers = endpoint.references.catalogue.offers
    return ModelMetadata(
        name=info.name,
        versions=[offer.info.version for offer in offers if offer.info.name == info.name],
        platform="totalanvi",
        inputs=[
            TensorMetadata(name="rna", datatype="FP32", shape=[-1, info.n_genes]),
            TensorMetadata(name="protein", datatype="FP32", shape=[-1, len(info.proteins)]),
        ],
        outputs=[
            TensorMetadata(name=name, datatype=_TYPES.get(name, "FP32"), shape=output_shape(name, info))
            for name in outputs_of(info)
        ],
    )


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type=JSON)
