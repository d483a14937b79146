"""What can go wrong between a query and its annotation.

Every error here is somebody's to mend: its message says what was expected, what was found, and what to do. The command
line exits with ``exit_code`` and prints the message; the endpoint answers with ``http_status`` and the same message.

::

    ServingError
    ├── BundleError        a bundle is missing, altered, incomplete or of a newer schema
    ├── QueryError         a query cannot be read, is empty, or lacks a named key, layer or modality
    │   ├── CountsError    values that are not raw counts
    │   └── AlignmentError features that cannot be matched to the reference's
    ├── OutputError        an output exists already, or its suffix is unknown
    └── EndpointError      an endpoint is unreachable, refuses, or speaks another protocol version
"""

from __future__ import annotations

__all__ = [
    "AlignmentError",
    "BundleError",
    "CountsError",
    "EndpointError",
    "OutputError",
    "QueryError",
    "ServingError",
]


class ServingError(ValueError):
    """Base of every error that a user of a bundle, a query or an endpoint can mend."""

    exit_code: int = 2
    http_status: int = 400


class BundleError(ServingError):
    """A bundle is missing, altered, incomplete or of a newer schema."""

    http_status = 503


class QueryError(ServingError):
    """A query cannot be read, is empty, or lacks a named key, layer or modality."""

    http_status = 422


class CountsError(QueryError):
    """Values that are not raw counts: negative, fractional, NaN or infinite."""


class AlignmentError(QueryError):
    """Features that cannot be matched to the reference's."""


class OutputError(ServingError):
    """An output exists already, cannot be written, or has an unknown suffix."""


class EndpointError(ServingError):
    """An endpoint is unreachable, refuses the request, or speaks another protocol version."""

    http_status = 502
