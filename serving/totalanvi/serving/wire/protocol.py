"""The version of the routes and of the chunk format, and what to say where two of them meet."""

from __future__ import annotations

__all__ = ["PROTOCOL", "difference"]

PROTOCOL = 4
"""A client and a server with different ones refuse each other: at the first call, and in every chunk."""


def difference(found: object, here: str, there: str) -> str | None:
    """Say what is wrong with the other side's protocol, and which side to upgrade; None when it is the same.

    Parameters
    ----------
    found
        What the other side speaks, or whatever else it sent.
    here, there
        What the sides are called, such as ``"this client"`` and ``"the endpoint"``.

    Examples
    --------
    >>> difference(PROTOCOL, "this client", "the endpoint")
    >>> difference(PROTOCOL - 1, "this client", "the endpoint")
    'expected protocol 4, found 3; upgrade totalanvi at the endpoint'
    >>> difference(PROTOCOL + 1, "this client", "the endpoint")
    'expected protocol 4, found 5; upgrade totalanvi at this client'
    """
    if found == PROTOCOL:
        return None
    older = here if isinstance(found, int) and found > PROTOCOL else there
    return f"expected protocol {PROTOCOL}, found {found!r}; upgrade totalanvi at {older}"
