"""What BentoML refuses in a line of text, a path that is nowhere or a method that it does not take, is told in JSON."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from totalanvi.serving.endpoint.answers import refuse

__all__ = ["RefusalsInJson"]

_REFUSED = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_PLAIN = "text/plain"


class RefusalsInJson:
    """An application whose refusals are all errors as our own routes answer them.

    BentoML hands a request on only where one of our routes takes it. A route for all else would hide BentoML's own.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what was refused in plain text is refused anew."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused: HTTPException | None = None

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = _plain_refusal(message)
            if refused is None:
                await send(message)

        await self._app(scope, receive, send_unless_refused)
        if refused is not None:
            answer = await refuse(Request(scope), refused)
            await answer(scope, receive, send)


def _plain_refusal(start: Message) -> HTTPException | None:
    if start["status"] not in _REFUSED:
        return None
    headers = Headers(raw=start.get("headers", []))
    if not headers.get("content-type", "").startswith(_PLAIN):
        return None
    allowed = {name: value for name, value in headers.items() if name == "allow"}
    return HTTPException(start["status"], headers=allowed)
