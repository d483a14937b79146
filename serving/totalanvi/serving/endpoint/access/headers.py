"""Headers that keep browsers from doing more with an endpoint than was meant."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from totalanvi.serving.endpoint.answers import error_answer
from totalanvi.serving.errors import AccessError

__all__ = ["SafeHeaders"]

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_UNLESS_SET = {"Cache-Control": "no-store"}
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class SafeHeaders:
    """An application whose answers no other site can read, frame, or take for something else.

    There is no CORS: no header lets another origin read an answer. Browsers send some requests to other sites all the
    same, such as forms; those that are not for reading are refused, as an endpoint on this machine asks for no key.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with these headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                for name, value in _UNLESS_SET.items():
                    headers.setdefault(name, value)
                if not headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("Content-Security-Policy", _NO_PAGE)
            await send(message)

        app = self._app
        if scope["method"] not in _READING and Headers(scope=scope).get("sec-fetch-site") == "cross-site":
            error = AccessError(
                "Expected a request from no other site, found that a browser sends it for one; ask the endpoint itself."
            )
            error.http_status = 403
            app = error_answer(error)
        await app(scope, receive, send_safely)
