"""Every request is counted and answered in time, and every failure becomes a status and a message."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import BusyError, DeadlineError, EndpointError, NotReadyError, ServingError

__all__ = ["JSON", "Handler", "answering", "refuse"]

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"

_CLIENT_GONE = 499

_log = logging.getLogger(__name__)


def answering(endpoint: Endpoint, route: str, handler: Handler, plain_errors: bool = False) -> Handler:
    """Wrap a handler so that every request is counted and every failure answered, in time.

    Parameters
    ----------
    endpoint
        Whose requests they are.
    route
        What they are counted as.
    handler
        Answers them.
    plain_errors
        Whether errors are plain messages, as other protocols have them.
    """

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(endpoint.limits.request_seconds):
                response = await handler(request)
        except TimeoutError:
            late = DeadlineError(
                f"Expected an answer within {endpoint.limits.request_seconds:g} s, found none; "
                "send fewer cells at a time, or ask for fewer samples."
            )
            response = _error_answer(late, plain_errors)
        except ServingError as error:
            response = _error_answer(error, plain_errors)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_GONE)
        except Exception as error:
            response = _fault_answer(route, error, plain_errors)
        endpoint.metrics.answered(route, response.status_code, time.perf_counter() - started)
        return response

    return answer


async def refuse(request: Request, error: Exception) -> Response:
    """Answer for what no route takes."""
    assert isinstance(error, HTTPException)
    answer = _error_answer(EndpointError(f"{request.method} {request.url.path}: {error.detail}."))
    answer.status_code = error.status_code
    answer.headers.update(error.headers or {})
    return answer


def _error_answer(error: ServingError, plain: bool = False) -> Response:
    body = {"error": str(error) if plain else {"type": type(error).__name__, "message": str(error)}}
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, NotReadyError):
        headers["Retry-After"] = "1"
    return Response(
        json.dumps(body, ensure_ascii=False), status_code=error.http_status, headers=headers, media_type=JSON
    )


def _fault_answer(route: str, error: Exception, plain: bool) -> Response:
    """Answer for a fault of ours. The log says where it arose; what it says may hold a client's data."""
    steps = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{step.name} ({step.filename}:{step.lineno})" for step in reversed(steps))
    _log.error("%s failed with %s in %s", route, type(error).__name__, where)
    fault = EndpointError("The endpoint failed at this request; its operator finds where in the server's log.")
    answer = _error_answer(fault, plain)
    answer.status_code = 500
    return answer
