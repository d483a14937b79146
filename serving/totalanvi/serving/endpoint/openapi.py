"""The endpoint's routes as OpenAPI 3.1, made from the schemas that bodies are read and written with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from totalanvi.serving.endpoint.files.job import FileOptions
from totalanvi.serving.endpoint.files.keeping import PARTS
from totalanvi.serving.endpoint.files.schemas import UploadAnswer, UploadState
from totalanvi.serving.endpoint.inference_protocol.schemas import (
    InferenceAnswer,
    InferenceFault,
    InferenceRequest,
    ModelMetadata,
    ServerMetadata,
)
from totalanvi.serving.version import software_version
from totalanvi.serving.wire.chunks import MEDIA_TYPE
from totalanvi.serving.wire.schemas import (
    EndpointInfo,
    FeaturesAnswer,
    LabelsAnswer,
    PredictAnswer,
    PredictRequest,
    ReferencesAnswer,
)

__all__ = ["openapi"]

JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"

_SCHEMAS = "#/components/schemas/{model}"

_REFUSALS = {
    401: "The endpoint asks for a key, and the request carries none of its keys.",
    403: "The endpoint has no keys, and answers this machine alone.",
    404: "There is no such reference, or file; the message says what there is.",
    408: "The body came too slowly, or did not come to its end.",
    409: "The cells were aligned to the features of another reference.",
    413: "The body has more bytes, cells or counts than the endpoint takes.",
    415: "The body is in another format.",
    422: "The body cannot be understood, or its cells cannot be mapped; the message says what to do.",
    429: "The endpoint has as much work as it takes; `Retry-After` says when to come back.",
    503: "The endpoint is loading its reference, or shutting down.",
    504: "The answer took too long.",
    507: "The endpoint has no room for the file.",
}
_KEYS = (401, 403)
_ASKING = (*_KEYS, 404, 503)
_MAPPING = (*_ASKING, 408, 409, 413, 415, 422, 429, 504)
_FILES = (*_MAPPING, 507)


class Fault(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "QueryError", "message": "…"}]})

    type: str
    """Class of the error in `totalanvi.serving`."""
    message: str
    """What was expected, what was found, and what to do."""


class FileProgress(BaseModel):
    """How far a file has come."""

    stage: str
    cells: int
    """Cells that were mapped."""
    total: int | None
    """Cells that the file has, once that is known."""


class ErrorAnswer(BaseModel):
    """Answer of every request that was refused or failed."""

    error: Fault


_MODELS: tuple[type[BaseModel], ...] = (
    *(
        EndpointInfo,
        ErrorAnswer,
        FileProgress,
        FeaturesAnswer,
        LabelsAnswer,
        PredictAnswer,
        PredictRequest,
        ReferencesAnswer,
        UploadAnswer,
        UploadState,
    ),
    *(InferenceAnswer, InferenceFault, InferenceRequest, ModelMetadata, ServerMetadata),
)


def openapi() -> dict[str, Any]:
    """Describe every route.

    Examples
    --------
    >>> sorted(openapi()["paths"])[:2]
    ['/livez', '/metrics']
    """
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_SCHEMAS)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "totalanvi",
            "summary": "Maps single cells onto CITE-seq references.",
            "version": software_version(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Where the operator has given out keys; the empty one says that there may be none.
        "security": [{"bearer": []}, {"header": []}, {}],
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "parameters": {
                "reference": _REFERENCE,
                "model": _MODEL,
                "version": _VERSION,
                "request_id": _REQUEST,
                "id": _ID,
                "part": _PART,
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
        },
    }


def _paths() -> dict[str, Any]:
    probe = _answer("It is so.", {TEXT: {}})
    not_so = {"503": {"description": "Not yet, or no longer."}}
    exposition, described = _answer("Text exposition.", {TEXT: {}}), _answer("OpenAPI 3.1.", {JSON: {}})
    return {
        "/livez": {"get": _operation("Whether the process lives.", {"200": probe})},
        "/readyz": {"get": _operation("Whether requests are taken in.", {"200": probe} | not_so)},
        "/metrics": {"get": _operation("For Prometheus.", {"200": exposition} | _refused(*_KEYS))},
        "/v1/openapi.json": {"get": _operation("This description.", {"200": described} | _refused(*_KEYS))},
        "/v1/references": {"get": _get("What cells can be mapped to.", ReferencesAnswer, chosen=False)},
        "/v1/info": {"get": _get("A reference, and what the endpoint accepts.", EndpointInfo)},
        "/v1/features": {"get": _get("What chunks are aligned to.", FeaturesAnswer)},
        "/v1/labels": {"get": _get("What a cell can be called.", LabelsAnswer)},
        "/v1/predict": {
            "post": _post("Map a few cells.", {JSON: _of(PredictRequest)}, {JSON: _of(PredictAnswer)}, [_REFERENCE_REF])
        },
        "/v1/map": {
            "post": _post(
                "Map a chunk of aligned cells, as an Arrow IPC stream; `totalanvi.serving.wire.chunks` has the format.",
                {MEDIA_TYPE: _BYTES},
                {MEDIA_TYPE: _BYTES},
                [_REFERENCE_REF],
            )
        },
        "/v1/files": {"post": _files()},
        "/v1/files/{request_id}/progress": {
            "get": _operation(
                "How far a file at work has come.",
                {"200": _answer("The answer.", {JSON: _of(FileProgress)})} | _refused(*_KEYS, 404),
            )
            | {"parameters": [_ref("parameters/request_id")]}
        },
        **_upload_paths(),
        "/v1/landmarks": {
            "get": _operation(
                "Places of a reference's own cells on its map: x and y of each, little-endian float32.",
                {"200": _answer("The answer.", {BINARY: _BYTES})} | _refused(*_ASKING),
            )
            | {"parameters": [_REFERENCE_REF]}
        },
        **_inference_paths(),
    }


def _upload_paths() -> dict[str, Any]:
    """Describe the routes for files in steps."""
    options = [
        {"name": name, "in": "query", "schema": one}
        for name, one in FileOptions.model_json_schema()["properties"].items()
    ]
    one, state = _ref("parameters/id"), {JSON: _of(UploadState)}
    kinds = (BINARY, "application/x-hdf5", "application/vnd.apache.parquet", "text/csv", "text/html")

    def step(summary: str, status: str, content: dict[str, Any], refusals: tuple[int, ...]) -> dict[str, Any]:
        return _operation(summary, {status: _answer("Done.", content)} | _refused(*refusals)) | {"parameters": [one]}

    sent = step(
        "Send a file that stays for a while, and see how its names match.", "201", {JSON: _of(UploadAnswer)}, _FILES
    )
    begun = step("Begin to map it.", "202", state, (*_KEYS, 404, 409, 422, 503))
    part = step("What became of it: columns to be shown, or a file.", "200", dict.fromkeys(kinds, _BYTES), _FILES)
    return {
        "/v1/uploads": {
            "post": sent | {"parameters": options, "requestBody": {"required": True, "content": {BINARY: _BYTES}}}
        },
        "/v1/uploads/{id}": {
            "get": step("How far it has come, or the error that ended it.", "200", state, _FILES),
            "delete": step("Remove it.", "204", {}, (*_KEYS, 404)),
        },
        "/v1/uploads/{id}/map": {"post": begun | {"parameters": [one, *options]}},
        "/v1/uploads/{id}/{part}": {"get": part | {"parameters": [one, _ref("parameters/part")]}},
    }


def _files() -> dict[str, Any]:
    """Describe the route for whole files; its options are those of `FileOptions`."""
    options = FileOptions.model_json_schema()["properties"]
    form = {"schema": {"type": "object", "properties": {"file": _BYTES["schema"]}, "required": ["file"]}}
    found = _post(
        "Map a file of cells (h5ad, h5mu, 10x h5).",
        {BINARY: _BYTES, "multipart/form-data": form},
        dict.fromkeys(("application/x-hdf5", "application/vnd.apache.parquet"), _BYTES),
        [],
        refusals=_FILES,
    )
    return found | {"parameters": [{"name": name, "in": "query", "schema": one} for name, one in options.items()]}


def _inference_paths() -> dict[str, Any]:
    """Describe the routes of the Open Inference Protocol, version 2."""
    probe = {"200": {"description": "It is so."}, "503": {"description": "Not yet, or no longer."}}
    model, version = [_ref("parameters/model")], [_ref("parameters/model"), _ref("parameters/version")]
    paths: dict[str, Any] = {
        "/v2": {"get": _get("The server.", ServerMetadata, chosen=False, fault=InferenceFault)},
        "/v2/health/live": {"get": _operation("Whether the process lives.", probe)},
        "/v2/health/ready": {"get": _operation("Whether requests are taken in.", probe)},
    }
    for path, parameters in (("/v2/models/{name}", model), ("/v2/models/{name}/versions/{version}", version)):
        body = {JSON: _of(InferenceRequest), BINARY: _BYTES}
        answer = {JSON: _of(InferenceAnswer), BINARY: _BYTES}
        described = _get("Inputs and outputs of a reference.", ModelMetadata, chosen=False, fault=InferenceFault)
        paths[path] = {"get": described | {"parameters": parameters}}
        ready = _operation("Whether a reference can be asked for.", probe | _refused(*_KEYS, 404, fault=InferenceFault))
        paths[f"{path}/ready"] = {"get": ready | {"parameters": parameters}}
        infer = _post("Map cells given as dense counts.", body, answer, parameters, fault=InferenceFault)
        paths[f"{path}/infer"] = {"post": infer}
    return paths


def _ref(place: str) -> dict[str, str]:
    return {"$ref": f"#/components/{place}"}


def _of(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _SCHEMAS.format(model=model.__name__)}}


_BYTES = {"schema": {"type": "string", "format": "binary"}}
_REFERENCE_REF = _ref("parameters/reference")
_REFERENCE = {
    "name": "reference",
    "in": "query",
    "description": "Name of the reference that is meant, or NAME@VERSION; the default one when left out.",
    "schema": {"type": "string"},
}
_MODEL = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "Name of a reference.",
    "schema": {"type": "string"},
}
_REQUEST = _MODEL | {"name": "request_id", "description": "The `X-Request-ID` that the file was sent with."}
_ID = _MODEL | {"name": "id", "description": "What the answer to the file called it."}
_PART = _MODEL | {
    "name": "part",
    "description": "`totalanvi.serving.endpoint.files.columns` has the format of the first two.",
    "schema": {"type": "string", "enum": list(PARTS)},
}
_VERSION = _MODEL | {"name": "version", "description": "Version of the reference."}


def _answer(said: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": said, "content": content}


def _refused(*statuses: int, fault: type[BaseModel] = ErrorAnswer) -> dict[str, Any]:
    refusals = {}
    for status in statuses:
        refusals[str(status)] = _answer(_REFUSALS[status], {JSON: _of(fault)})
        if status in (429, 503):
            refusals[str(status)]["headers"] = {"Retry-After": _ref("headers/Retry-After")}
    return refusals


def _operation(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": responses}


def _get(
    summary: str, answer: type[BaseModel], chosen: bool = True, fault: type[BaseModel] = ErrorAnswer
) -> dict[str, Any]:
    """Describe a question; `chosen` when it is about a reference that can be named."""
    responses = {"200": _answer("The answer.", {JSON: _of(answer)})} | _refused(*_ASKING, fault=fault)
    found = _operation(summary, responses)
    return found | {"parameters": [_REFERENCE_REF]} if chosen else found


def _post(
    summary: str,
    body: dict[str, Any],
    answer: dict[str, Any],
    parameters: Sequence[dict[str, str]],
    fault: type[BaseModel] = ErrorAnswer,
    refusals: Sequence[int] = _MAPPING,
) -> dict[str, Any]:
    responses = {"200": _answer("One result a cell, in order.", answer)} | _refused(*refusals, fault=fault)
    found = _operation(summary, responses)
    return found | {"parameters": list(parameters), "requestBody": {"required": True, "content": body}}
