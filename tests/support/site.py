"""An endpoint that answers some chunks by an error, when told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from totalanvi.serving.endpoint.answers import error_answer
from totalanvi.serving.errors import EndpointError, ServingError

__all__ = ["Site"]

OUT_OF_ORDER = EndpointError("out of order")
OUT_OF_ORDER.http_status = 500


@dataclass
class Site:
    """An endpoint whose chunks, from one on, are answered by an error."""

    app: ASGIApp
    url: str = ""
    fails_from: float = float("inf")
    error: ServingError = OUT_OF_ORDER
    chunks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and scope["path"] == "/v1/map":
            with self.lock:
                self.chunks += 1
                if self.chunks > self.fails_from:
                    app = error_answer(self.error)
        await app(scope, receive, send)
