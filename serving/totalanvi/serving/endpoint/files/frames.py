"""What an endpoint and a process that reads an uploaded file say to each other, through pipes.

A frame is a kind (one byte), a length (eight, the highest first), and a body::

    j  to the process      the job, as JSON
    q  from the process    a question: the route, a line break, and the body of a request
    a  to the process      the answer to it
    e  either way          an error, as JSON: its class and its message, and where it arose when it is a fault of ours
    p  from the process    progress, as JSON: cells mapped, and how many there are
    d  from the process    done, as JSON: what kind of file the output is
"""

from __future__ import annotations

import struct
from typing import IO, Literal

__all__ = ["HEAD_BYTES", "Kind", "pack", "read_frame", "unpack_head"]

Kind = Literal["j", "q", "a", "e", "p", "d"]

_HEAD = struct.Struct(">cQ")
HEAD_BYTES = _HEAD.size


def pack(kind: Kind, body: bytes) -> bytes:
    r"""Return a frame.

    Examples
    --------
    >>> pack("a", b"yes")
    b'a\x00\x00\x00\x00\x00\x00\x00\x03yes'
    """
    return _HEAD.pack(kind.encode(), len(body)) + body


def unpack_head(head: bytes) -> tuple[str, int]:
    """Return kind and length of the frame that follows."""
    kind, length = _HEAD.unpack(head)
    return kind.decode("latin-1"), length


def read_frame(stream: IO[bytes]) -> tuple[str, bytes]:
    """Read a frame.

    Raises
    ------
    EOFError
        When the other end is gone.
    """
    head = stream.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        raise EOFError("The endpoint is gone.")
    kind, length = unpack_head(head)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError("The endpoint is gone.")
    return kind, body
