"""Paths that BentoML would answer itself, in words of its own: those with a line break in them."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from totalanvi.serving.endpoint.answers import error_answer, has_plain_errors
from totalanvi.serving.errors import EndpointError

__all__ = ["PathsInOneLine"]


class PathsInOneLine:
    """ASGI middleware that refuses a path with a line break as any other that leads nowhere.

    BentoML hands on what its pattern for the application's paths matches, in which a dot is no line break.

    Parameters
    ----------
    app
        Answers all others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or "\n" not in scope["path"]:
            await self._app(scope, receive, send)
            return
        error = EndpointError("Expected a path in one line, found a line break in it; leave it out.")
        error.http_status = 404
        await error_answer(error, has_plain_errors(scope["path"]))(scope, receive, send)
