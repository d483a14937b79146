"""BentoML's own deadline of requests, left out: it keeps what it has of a request until the deadline passes.

Its middleware starts a timer for each request and never cancels it. With the timer stays the request's context, and
what has arrived of its body: at 60 requests a second and a deadline of ten minutes that is gigabytes (BentoML 1.4.39).
Our own deadline ends every request before, and says what to do (`totalanvi.serving.endpoint.answering`). No setting
leaves the middleware out.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["leave_out_bentoml_deadline"]


_MIDDLEWARE = "TimeoutMiddleware"


class _Passed:
    """Stands where the middleware does, and hands requests on."""

    def __init__(self, app: Any, timeout: float) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def leave_out_bentoml_deadline() -> None:
    """Have applications that BentoML makes from now on do without it; a version that has it elsewhere keeps it.

    Examples
    --------
    >>> leave_out_bentoml_deadline()
    """
    try:
        traffic = importlib.import_module("bentoml._internal.server.http.traffic")
    except ImportError:
        return
    setattr(traffic, _MIDDLEWARE, _Passed)
