"""What is logged: a JSON object a line, and one line a request, which its id ties to everything else about it.

No count, name of a gene or cell, or result is ever logged: only routes, sizes, statuses and times.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from totalanvi.serving.endpoint.access.account import account_name

__all__ = ["REQUEST_ID", "JsonLines", "RequestLog", "note", "request_id", "set_up_logging"]

REQUEST_ID = "X-Request-ID"
"""Header that names a request: taken over from the client where it is a plain name, made here otherwise."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_PATH = 100
_ASKED_OFTEN = ("/metrics", "/v2/health/live", "/v2/health/ready")
_REFUSED = 400
_NO_ANSWER = 500

_noted: ContextVar[dict[str, Any] | None] = ContextVar("totalanvi_request", default=None)

_log = logging.getLogger(__name__)


def note(**fields: object) -> None:
    """Have facts about the request that is answered now written into its line of the log.

    Examples
    --------
    >>> note(cells=5, reference="pbmc@1")
    """
    if (noted := _noted.get()) is not None:
        noted.update(fields)


def request_id() -> str | None:
    """Return the id of the request that is answered now, None outside of one."""
    noted = _noted.get()
    return None if noted is None else str(noted["request_id"])


class RequestLog:
    """ASGI middleware that gives each request an id, sends it back, and logs how the request went.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = Headers(scope=scope).get(REQUEST_ID, "")
        name = named if _PLAIN_ID.fullmatch(named) else uuid.uuid4().hex
        noted: dict[str, Any] = {"request_id": name}
        token = _noted.set(noted)
        started = time.perf_counter()
        status = _NO_ANSWER

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = name
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            if (key := account_name()) is not None:
                noted["key"] = key
            if status >= _REFUSED or scope["path"] not in _ASKED_OFTEN:
                noted |= {
                    "method": scope["method"],
                    "path": scope["path"][:_MOST_PATH],
                    "status": status,
                    "seconds": round(time.perf_counter() - started, 4),
                }
                _log.info("answered")
            _noted.reset(token)


class JsonLines(logging.Formatter):
    """Writes records as JSON, with the id and the facts of the request that they belong to.

    Examples
    --------
    >>> record = logging.LogRecord("totalanvi", logging.INFO, "", 0, "Serving %s.", ("pbmc",), None)
    >>> json.loads(JsonLines().format(record))["message"]
    'Serving pbmc.'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        noted = _noted.get() or {}
        line |= noted if record.name == __name__ else {name: noted[name] for name in ("request_id",) if name in noted}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging() -> None:
    """Log what this package has to say to stderr, one JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    ours = logging.getLogger("totalanvi")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    # BentoML's own handlers would say it once more.
    ours.propagate = False
