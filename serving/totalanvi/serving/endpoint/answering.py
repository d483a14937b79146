"""Every request is counted and answered in time, and every failure becomes a status and a message."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from totalanvi.serving.endpoint.answers import error_answer
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import DeadlineError, FaultError, ServingError

__all__ = ["Handler", "answering"]

Handler = Callable[[Request], Awaitable[Response]]

_CLIENT_GONE = 499

_log = logging.getLogger(__name__)


def answering(
    endpoint: Endpoint, route: str, handler: Handler, seconds: float | None = None, *, plain_errors: bool = False
) -> Handler:
    """Wrap a handler so that every request is counted and every failure answered, in time.

    Parameters
    ----------
    endpoint
        Whose requests they are.
    route
        What they are counted as.
    handler
        Answers them.
    seconds
        How long that may take; None for what requests may take.
    plain_errors
        Whether errors are plain messages, as other protocols have them.
    """
    most = endpoint.limits.request_seconds if seconds is None else seconds

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(most):
                response = await handler(request)
        except TimeoutError:
            late = DeadlineError(
                f"Expected an answer within {most:g} s, found none; "
                "send fewer cells at a time, or ask for fewer samples."
            )
            response = error_answer(late, plain_errors)
        except ServingError as error:
            response = error_answer(error, plain_errors)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_GONE)
        except Exception as error:
            response = _fault_answer(route, error, plain_errors)
        endpoint.metrics.answered(route, response.status_code, time.perf_counter() - started)
        return response

    return answer


def _fault_answer(route: str, error: Exception, plain: bool) -> Response:
    """Answer for a fault of ours. The log says where it arose; what it says may hold a client's data."""
    steps = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{step.name} ({step.filename}:{step.lineno})" for step in reversed(steps))
    _log.error("%s failed with %s in %s", route, type(error).__name__, where)
    fault = FaultError("The endpoint failed at this request; its operator finds where in the server's log.")
    return error_answer(fault, plain)
