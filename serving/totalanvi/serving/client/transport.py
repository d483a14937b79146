"""Requests to an endpoint: sent again after what passes, raised as what they are otherwise."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from totalanvi.serving import errors
from totalanvi.serving.errors import BusyError, EndpointError, NotReadyError, ServingError

__all__ = ["Transport"]

_FIRST_WAIT = 0.25
_LONGEST_WAIT = 10.0
_CONNECT_SECONDS = 10
_RETRIES_BEFORE_CONTACT = 2
_PIECE_BYTES = 1 << 17
_GATEWAY_STATUSES = (502, 503, 504)
"""What a proxy in front of an endpoint answers while that restarts."""

_LOST = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError, httpx.ProxyError)
"""Connections that were not made or broke off. An answer that takes too long is none of these: it would again."""

Body = TypeVar("Body", bound=BaseModel)


class Transport:
    """One endpoint, reached over HTTP; may be used from several threads.

    Parameters
    ----------
    url
        Scheme, host and port, and a path where a proxy adds one.
    timeout
        Seconds to wait for an answer.
    retries
        How often a request is sent again. Before the endpoint has answered for the first time it is fewer: a wrong
        address should be told soon.

    Raises
    ------
    EndpointError
        When the URL is none.
    """

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        self.url = _valid(url)
        self._retries = retries
        self._met = False
        self._http = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)))

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine, by its address."""
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    def get(self, path: str) -> bytes:
        """Return the answer to a GET; raises as `post`."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the answer to a POST.

        Raises
        ------
        ServingError
            Whatever the endpoint raised, as the same class with the same message.
        EndpointError
            When there is no endpoint, or what answers is none.
        """
        return self._ask("POST", path, body, headers)

    def parse(self, path: str, answer: bytes, schema: type[Body]) -> Body:
        """Return a JSON answer.

        Raises
        ------
        EndpointError
            When it does not follow the schema.
        """
        try:
            return schema.model_validate_json(answer)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise EndpointError(
                f"{self.url}{path}: the answer cannot be understood at {where!r}: {first['msg']}; "
                "upgrade the older of client and endpoint."
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.request(method, self.url + path, **_content(body, headers))
            except httpx.RequestError as error:
                failure: ServingError = self._unreachable(path, error, attempt)
                if not isinstance(error, _LOST):
                    raise failure from error
                wait = 0.0
            else:
                self._met = True
                if response.is_success:
                    return response.content
                failure = self._refusal(path, response)
                if not _passes(failure, response):
                    raise failure
                wait = _retry_after(response)
            if attempt > (self._retries if self._met else min(self._retries, _RETRIES_BEFORE_CONTACT)):
                raise failure
            time.sleep(max(wait, _back_off(attempt)))

    def _unreachable(self, path: str, error: httpx.RequestError, attempts: int) -> EndpointError:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            cure = "give the client a longer timeout or smaller chunks, or look at the endpoint's load"
        else:
            cure = "check that the URL is right, that `totalanvi serve` runs there, and that nothing between blocks it"
        times = "once" if attempts == 1 else f"{attempts} times"
        return EndpointError(f"{self.url}{path}: expected an endpoint, found none ({reason}; tried {times}); {cure}.")

    def _refusal(self, path: str, response: httpx.Response) -> ServingError:
        """Return the error that an endpoint answered with, as the class that it was there."""
        try:
            fault = response.json()["error"]
            name, message = str(fault["type"]), str(fault["message"])
        except (ValueError, KeyError, TypeError):
            return EndpointError(
                f"{self.url}{path}: expected an answer of a totalanvi endpoint, found status {response.status_code} "
                f"({response.reason_phrase}); check the URL, and what stands between."
            )
        found = getattr(errors, name, None) if name in errors.__all__ else None
        kind: type[ServingError] = EndpointError if found is None else found
        return kind(message)


def _content(body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return body and headers as httpx wants them, the body in pieces.

    httpx copies what is left of a body each time that the socket has taken a part of it: of a chunk of some megabytes,
    that is several times the whole.
    """
    if body is None:
        return {"headers": headers}
    whole = memoryview(body)
    pieces = (whole[start : start + _PIECE_BYTES] for start in range(0, len(whole), _PIECE_BYTES))
    return {"content": pieces, "headers": {**headers, "Content-Length": str(len(body))}}


def _valid(url: str) -> str:
    try:
        parsed = urlsplit(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.hostname) and parsed.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise EndpointError(f"{url!r}: expected an endpoint's URL such as http://localhost:3000, found another form.")
    return url.rstrip("/")


def _passes(failure: ServingError, response: httpx.Response) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(failure, (BusyError, NotReadyError)):
        return True
    return type(failure) is EndpointError and response.status_code in _GATEWAY_STATUSES


def _retry_after(response: httpx.Response) -> float:
    announced = response.headers.get("retry-after", "")
    return min(float(announced), _LONGEST_WAIT) if announced.isdecimal() else 0.0


def _back_off(attempt: int) -> float:
    """Return seconds to wait: doubling, and scattered so that clients do not come back all at once."""
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
