"""Lets in what carries a key, and charges it to the key; the log tells whose request it was."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from totalanvi.serving.addresses import is_loopback
from totalanvi.serving.endpoint.access.account import Accounts, acting_for
from totalanvi.serving.endpoint.access.keys import Key
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.answers import error_answer, has_plain_errors
from totalanvi.serving.errors import AccessError, ServingError

__all__ = ["Access"]

_PROBES = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready"})
_METRICS = "/metrics"
_READING = ("GET", "HEAD")

_log = logging.getLogger(__name__)


class Access:
    """An application that answers only those who may ask.

    Probes (``/livez``, ``/readyz``, ``/v2/health/…``) are answered without a key, and so is ``/metrics`` where the
    settings say so. Where no keys are asked for, only requests that arrive at a loopback address, and name it, are
    answered, unless the settings say otherwise: a page elsewhere may have its own name resolved to this machine.

    Parameters
    ----------
    app
        What answers them.
    settings
        Who may ask.
    accounts
        What keys have used so far; None for new ones.
    pages
        Paths that are read without a key, by whoever may reach the endpoint: they are the same for everybody.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: AccessSettings,
        accounts: Accounts | None = None,
        pages: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._settings = settings
        self._accounts = accounts or Accounts()
        self._pages = pages
        self._open = _PROBES | {_METRICS} if settings.open_metrics else _PROBES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in self._open):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Nothing here speaks WebSocket.
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            key = self._admitted(scope)
        except ServingError as error:
            _log.warning("Refused %s from %s: %s", _what(scope), _whom(scope), type(error).__name__)
            await error_answer(error, has_plain_errors(scope["path"]))(scope, receive, send)
            return
        if key is None:
            await self._app(scope, receive, send)
            return
        account = self._accounts.of(key)
        try:
            account.admit(key)
        except ServingError as error:
            _log.warning("Refused %s of key %r: %s", _what(scope), key.name, type(error).__name__)
            await error_answer(error, has_plain_errors(scope["path"]))(scope, receive, send)
            return
        with acting_for(account):
            await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Key | None:
        """Return the key of a request; None where none is asked for."""
        if self._settings.keys is None:
            if self._settings.no_auth or _is_local(scope):
                return None
            error = AccessError(
                "Expected a request from this machine to localhost, as the endpoint has no keys, found another; its "
                "operator gives it keys (TOTALANVI_KEYS_FILE), or lets everybody in (TOTALANVI_NO_AUTH=1)."
            )
            error.http_status = 403
            raise error
        if scope["path"] in self._pages and scope["method"] in _READING:
            return None
        secret = _secret(Headers(scope=scope))
        if secret is None:
            raise AccessError(
                "Expected a key, found none; send it as `Authorization: Bearer KEY` (Client(url, api_key=KEY), or "
                "TOTALANVI_API_KEY)."
            )
        key = self._settings.keys().find(secret)
        if key is None:
            raise AccessError(
                "Expected a key of this endpoint, found another; ask its operator for one, or whether it was replaced."
            )
        return key


def _is_local(scope: Scope) -> bool:
    """Tell whether a request is for this machine as such, by the address where it arrived and the one that it names."""
    address = scope.get("server")
    try:
        named = urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname
    except ValueError:
        named = None
    return address is not None and is_loopback(address[0]) and named is not None and is_loopback(named)


def _secret(headers: Mapping[str, str]) -> bytes | None:
    scheme, _, credentials = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        found = credentials.strip()
    else:
        found = headers.get("x-api-key", "").strip()
    # Starlette decodes headers as Latin-1.
    return found.encode("latin-1") or None


def _what(scope: Scope) -> str:
    """Return method and path for the log, as they came: decoded, a path might begin a line of its own."""
    return f"{scope['method']} {scope.get('raw_path', scope['path'].encode()).decode('latin-1')!a}"


def _whom(scope: Scope) -> str:
    client = scope.get("client")
    return "an unknown address" if client is None else str(client[0])
