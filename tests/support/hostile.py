"""Clients that an endpoint does not want, over plain sockets: slow, rude, or too many."""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["allow_sockets", "idle", "reset", "slow_bodies", "talk"]


def allow_sockets(number: int) -> None:
    """Let this process open so many more than it may need otherwise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number + 256:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number + 256, hard), hard))


@contextmanager
def idle(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Open connections and say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(number)]


@contextmanager
def slow_bodies(port: int, number: int, path: str = "/v1/map") -> Iterator[list[socket.socket]]:
    """Begin requests whose bodies do not come, but for a byte."""
    with idle(port, number) as connections:
        for connection in connections:
            connection.sendall(_head(path, 1000) + b"\xff")
        yield connections


def reset(port: int, path: str = "/v1/map") -> None:
    """Send half a body and hang up without a farewell."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(_head(path, 100_000) + bytes(50_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def talk(port: int, data: bytes) -> bytes:
    """Send something and return all that comes back until the other end hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # hung up on before all was sent; an answer may lie there
            pass
        answer = b""
        try:
            while block := connection.recv(65_536):
                answer += block
        except ConnectionResetError:
            pass
        return answer


def _head(path: str, length: int) -> bytes:
    kind = "application/vnd.apache.arrow.stream" if path == "/v1/map" else "application/json"
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
