"""Requests to an endpoint: sent again after what passes, raised as what they are otherwise."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from totalanvi.serving.addresses import is_loopback
from totalanvi.serving.client.carrier import named_error
from totalanvi.serving.client.patience import Patience
from totalanvi.serving.errors import (
    BusyError,
    DeadlineError,
    DeviceError,
    EndpointError,
    NotReadyError,
    ServingError,
    UnreachableError,
)

__all__ = ["Transport"]

_CONNECT_SECONDS = 10
_RETRIES_BEFORE_CONTACT = 2
_RETRIES_IN_VAIN = 2
"""Of a request that no answer came to in time: load may pass, but each try takes all the time that an answer may."""

_PIECE_BYTES = 1 << 17
_GATEWAY_STATUSES = (502, 503, 504)
"""What a proxy in front of an endpoint answers while that restarts."""

_LOST = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError, httpx.ProxyError)
"""Connections that were not made or broke off."""


class Transport:
    """One endpoint, reached over HTTP; may be used from several threads.

    Parameters
    ----------
    url
        Scheme, host and port, and a path where a proxy adds one.
    timeout
        Seconds to wait for an answer.
    retries
        How often a request is sent again. It is fewer where no answer came in time, and before the endpoint has
        answered for the first time: a wrong address should be told soon.
    api_key
        What the endpoint is to let one in for; None where it asks for none.
    allow_plain_http
        Whether a key may travel to another machine for all between to read.

    Raises
    ------
    EndpointError
        When the URL is none, or the key would travel so and may not.
    """

    def __init__(
        self, url: str, timeout: float, retries: int, api_key: str | None = None, allow_plain_http: bool = False
    ) -> None:
        self.url = _valid(url)
        self._timeout = timeout
        self._retries = retries
        self._met = False
        self._patience = Patience()
        if api_key is not None and self.url.startswith("http://") and not (self.is_loopback or allow_plain_http):
            raise EndpointError(
                f"{self.url}: expected https:// for an endpoint on another machine that is sent a key, found http://, "
                "which all between can read; use https://, or allow it (allow_plain_http=True, "
                "TOTALANVI_ALLOW_PLAIN_HTTP=1)."
            )
        self._http = httpx.Client(
            headers=_key_headers(api_key),
            # A key is for this URL and no other: whoever answers here must not be able to send it elsewhere.
            follow_redirects=False,
            # Given one, HTTPX asks no proxy of the environment's: there is none on the way to this machine.
            transport=httpx.HTTPTransport() if self.is_loopback else None,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine, by its address."""
        return is_loopback(urlsplit(self.url).hostname or "")

    def with_patience(self, patience: Patience) -> Transport:
        """Return the same connections, used with another patience."""
        other = copy.copy(self)
        other._patience = patience
        return other

    def get(self, path: str) -> bytes:
        """Return the answer to a GET; raises as `post`."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the answer to a POST.

        Raises
        ------
        ServingError
            Whatever the endpoint raised, as the same class with the same message.
        UnreachableError
            When there is no endpoint, or a proxy answers in its place.
        DeadlineError
            When the answer takes too long each time.
        EndpointError
            When the answer is none of an endpoint's.
        """
        return self._ask("POST", path, body, headers)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            seconds = self._patience.remaining(self._timeout)
            limits = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
            try:
                response = self._http.request(method, self.url + path, timeout=limits, **_content(body, headers))
            except httpx.RequestError as error:
                failure: ServingError = self._unreachable(path, error, attempt, seconds)
                if isinstance(failure, DeadlineError):
                    # The time of the whole query may be what was too short.
                    self._patience.remaining(0)
                if not _passes(failure):
                    raise failure from error
                announced = 0.0
            else:
                self._met = True
                if response.is_success:
                    return response.content
                failure = self._refusal(path, response)
                announced = _retry_after(response)
                if not (_passes(failure, response) and self._patience.can_wait(announced)):
                    raise failure
            if attempt > self._most_retries(failure):
                raise failure
            self._patience.wait(attempt, announced)

    def _most_retries(self, failure: ServingError) -> int:
        most = self._retries if self._met else min(self._retries, _RETRIES_BEFORE_CONTACT)
        return min(most, _RETRIES_IN_VAIN) if isinstance(failure, DeadlineError) else most

    def _unreachable(self, path: str, error: httpx.RequestError, attempts: int, seconds: float) -> EndpointError:
        lost = isinstance(error, _LOST)
        times = "once" if attempts == 1 else f"{attempts} times"
        if isinstance(error, httpx.TimeoutException) and not lost:
            return DeadlineError(
                f"{self.url}{path}: expected an answer within {seconds:.3g} s, found none (tried {times}); send fewer "
                "cells at a time (batch_size=, --batch-size), give the client a longer timeout, or look at the "
                "endpoint's load."
            )
        reason = str(error) or type(error).__name__
        kind = UnreachableError if lost else EndpointError
        return kind(
            f"{self.url}{path}: expected an endpoint, found none ({reason}; tried {times}); check that the URL is "
            "right, that `totalanvi serve` runs there, and that nothing between blocks it."
        )

    def _refusal(self, path: str, response: httpx.Response) -> ServingError:
        """Return the error that an endpoint answered with, as the class that it was there."""
        try:
            fault = response.json()["error"]
            name, message = str(fault["type"]), str(fault["message"])
        except (ValueError, KeyError, TypeError):
            kind = UnreachableError if response.status_code in _GATEWAY_STATUSES else EndpointError
            return kind(
                f"{self.url}{path}: expected an answer of a totalanvi endpoint, found status {response.status_code} "
                f"({response.reason_phrase}); check the URL, and what stands between."
            )
        return named_error(name, message)


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
        secret = parsed.username is not None or parsed.password is not None
    except ValueError:
        usable = secret = False
    if secret:
        raise EndpointError(
            "Expected an endpoint's URL without a password, found one in it; give a key apart from it (api_key=, "
            "TOTALANVI_API_KEY)."
        )
    if not usable:
        raise EndpointError(f"{url!r}: expected an endpoint's URL such as http://localhost:3000, found another form.")
    return url.rstrip("/")


def _key_headers(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
        raise EndpointError(
            "Expected a key of printable ASCII characters, found others or none; copy it again, without the line's end."
        )
    return {"Authorization": f"Bearer {api_key}"}


def _passes(failure: ServingError, response: httpx.Response | None = None) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(failure, (BusyError, DeadlineError, DeviceError, NotReadyError, UnreachableError)):
        return True
    return type(failure) is EndpointError and response is not None and response.status_code in _GATEWAY_STATUSES


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that an answer asks to wait; a date, which proxies may send, is taken for none."""
    announced = response.headers.get("retry-after", "")
    return float(announced) if announced.isdecimal() else 0.0
