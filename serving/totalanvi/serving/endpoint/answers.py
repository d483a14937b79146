"""Errors as an endpoint answers them: ``{"error": {"type": …, "message": …}}``, with a status and its headers."""

from __future__ import annotations

import json

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from totalanvi.serving.errors import AccessError, BusyError, EndpointError, NotReadyError, ServingError

__all__ = ["JSON", "error_answer", "has_plain_errors", "refuse"]

JSON = "application/json"
_INFERENCE = "/v2/"


def has_plain_errors(path: str) -> bool:
    """Tell whether errors of a path are plain messages: those of the Open Inference Protocol are.

    Examples
    --------
    >>> has_plain_errors("/v2/models/pbmc"), has_plain_errors("/v1/map")
    (True, False)
    """
    return f"{path}/".startswith(_INFERENCE)


def error_answer(error: ServingError, plain: bool = False) -> Response:
    """Return the answer that an error is.

    Parameters
    ----------
    error
        What went wrong.
    plain
        Whether the answer is to hold a plain message, as other protocols have it.
    """
    body = {"error": str(error) if plain else {"type": type(error).__name__, "message": str(error)}}
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, NotReadyError):
        headers["Retry-After"] = "1"
    elif isinstance(error, AccessError):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        json.dumps(body, ensure_ascii=False), status_code=error.http_status, headers=headers, media_type=JSON
    )


async def refuse(request: Request, error: Exception) -> Response:
    """Answer for what no route takes."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    answer = error_answer(EndpointError(f"{request.method} {path}: {error.detail}."), has_plain_errors(path))
    answer.status_code = error.status_code
    answer.headers.update(error.headers or {})
    return answer
