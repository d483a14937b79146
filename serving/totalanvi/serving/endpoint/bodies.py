"""Bodies of requests: of the right format, and read no further than they may be long."""

from __future__ import annotations

from starlette.requests import Request

from totalanvi.serving.errors import MediaTypeError, TooLargeError

__all__ = ["is_compressed", "read_body", "require_plain", "require_type"]


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body.

    Raises
    ------
    TooLargeError
        When it is, or says that it is, longer than `max_bytes`.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes, f"{announced} bytes")
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > max_bytes:
            raise _too_large(max_bytes, "more")
    return bytes(body)


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
