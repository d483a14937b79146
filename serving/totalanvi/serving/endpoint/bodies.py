"""Bodies of requests that are computed: of the right format, and read before they take a place in the queue.

A body that trickles in, or never ends, holds a connection and what has arrived of it; places are for those that are
whole. So nobody is kept from being served by senders that are slow, on purpose or not.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from totalanvi.serving.errors import BusyError, DeadlineError, MediaTypeError, TooLargeError

__all__ = ["Bodies", "is_compressed", "require_plain", "require_type"]

_LEAST_BYTES_PER_SECOND = 4096
"""What must come with each second beyond those that any body has: modems of old were as fast."""
_RETRY_SECONDS = 2


class Bodies:
    """Reads bodies into memory, of which all that are arriving together take no more than they may.

    Parameters
    ----------
    max_arriving_bytes
        What has arrived of bodies that are not yet whole.
    patience_seconds
        Time for a body, however small.

    Examples
    --------
    >>> bodies = Bodies(max_arriving_bytes=2**29)
    >>> body = await bodies.read(request, max_bytes=2**26)  # doctest: +SKIP
    """

    def __init__(self, max_arriving_bytes: int, patience_seconds: float = 10) -> None:
        self._patience = patience_seconds
        self._max_arriving_bytes = max_arriving_bytes
        self._arriving = 0

    async def read(self, request: Request, max_bytes: int) -> bytes:
        """Return a request's body.

        Raises
        ------
        TooLargeError
            When it is larger than `max_bytes`.
        BusyError
            When too much is arriving already.
        DeadlineError
            When it arrives too slowly, or no more.
        """
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise _too_large(max_bytes, f"{announced} bytes")
        # Joined once at the end: to let a buffer grow copies what it holds again and again, on the event loop.
        blocks: list[bytes] = []
        size = 0
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience) as patience:
                async for block in request.stream():
                    size += len(block)
                    self._arriving += len(block)
                    if size > max_bytes:
                        raise _too_large(max_bytes, "more")
                    if self._arriving > self._max_arriving_bytes:
                        raise BusyError(
                            f"Expected at most {self._max_arriving_bytes} bytes to arrive at a time, found more under "
                            f"way; ask again in {_RETRY_SECONDS} s.",
                            retry_after=_RETRY_SECONDS,
                        )
                    blocks.append(block)
                    patience.reschedule(begun + self._patience + size / _LEAST_BYTES_PER_SECOND)
        except TimeoutError as error:
            slow = DeadlineError(
                f"Expected a body within {self._patience:g} s, and {_LEAST_BYTES_PER_SECOND} bytes a second beyond; "
                f"found {size} bytes; send it again, over a faster connection."
            )
            slow.http_status = 408
            raise slow from error
        finally:
            self._arriving -= size
        return b"".join(blocks)


def require_type(request: Request, expected: str) -> None:
    """Refuse a body that does not say that it is of the expected type.

    Raises
    ------
    MediaTypeError
        When the header ``Content-Type`` is missing, or says something else.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != expected:
        raise MediaTypeError(
            f"{request.url.path}: expected the header `Content-Type: {expected}`, found {found or 'none'!r}; "
            "set it, and send the body in that format."
        )


def is_compressed(request: Request) -> bool:
    """Tell whether the body is compressed with zstd.

    Raises
    ------
    MediaTypeError
        When it is compressed otherwise.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "zstd"):
        raise MediaTypeError(f"Expected `Content-Encoding: zstd` or none, found {encoding!r}; compress with zstd.")
    return encoding == "zstd"


def require_plain(request: Request) -> None:
    """Refuse a body that is compressed.

    Raises
    ------
    MediaTypeError
        When it is.
    """
    if "content-encoding" in request.headers:
        raise MediaTypeError(
            f"{request.url.path}: expected no `Content-Encoding`, found "
            f"{request.headers['content-encoding']!r}; send the body as it is."
        )


def _too_large(max_bytes: int, found: str) -> TooLargeError:
    return TooLargeError(f"Expected a body of at most {max_bytes} bytes, found {found}; send fewer cells at a time.")
