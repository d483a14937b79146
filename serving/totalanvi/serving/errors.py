"""What can go wrong between a query and its annotation.

Every error here is somebody's to mend: its message says what was expected, what was found, and what to do. The command
line exits with ``exit_code`` and prints the message; the endpoint answers with ``http_status`` and the same message. A
job of many queries ends with an error that ``concerns_all`` of them, and goes on to the next query after any other.

::

    ServingError
    ├── BundleError        a bundle is missing, altered, incomplete or of a newer schema
    ├── QueryError         a query cannot be read, is empty, or lacks a named key, layer or modality
    │   ├── CountsError    values that are not raw counts
    │   ├── AlignmentError features that cannot be matched to the reference's
    │   ├── StaleFeaturesError  a request was aligned to other features than the endpoint's reference has
    │   └── TooLargeError  a request is larger than the endpoint accepts
    ├── OutputError        an output exists already, or its suffix is unknown
    ├── HubError           a hub is unreachable, refuses, or has no such bundle
    ├── DeviceError        the device that computes has failed
    ├── SettingsError      an environment variable that configures the endpoint has an unusable value
    └── EndpointError      an endpoint is unreachable, refuses, or speaks another protocol version
        ├── MediaTypeError a request body is in a format that the endpoint does not read
        ├── AccessError    a request carries no key, or none of the endpoint's
        ├── BusyError      an endpoint has as much work as it accepts
        │   └── QuotaError a key has used up what it may for now
        ├── FaultError     an endpoint failed at a request
        ├── UnknownReferenceError  an endpoint has no reference of that name
        ├── NotReadyError  an endpoint is still loading its reference
        ├── UnreachableError  nothing answers at an endpoint's address, however often it is asked
        └── DeadlineError  an endpoint could not answer within its time limit
            └── OutOfTimeError  the time is over that whoever asks has given
"""

from __future__ import annotations

__all__ = [
    "AccessError",
    "AlignmentError",
    "BundleError",
    "BusyError",
    "CountsError",
    "DeadlineError",
    "DeviceError",
    "EndpointError",
    "FaultError",
    "HubError",
    "MediaTypeError",
    "NotReadyError",
    "OutOfTimeError",
    "OutputError",
    "QueryError",
    "QuotaError",
    "ServingError",
    "SettingsError",
    "StaleFeaturesError",
    "TooLargeError",
    "UnknownReferenceError",
    "UnreachableError",
]


class ServingError(ValueError):
    """Base of every error that a user of a bundle, a query or an endpoint can mend."""

    exit_code: int = 2
    http_status: int = 400
    concerns_all: bool = False
    """Whether no other query would be spared."""


class BundleError(ServingError):
    """A bundle is missing, altered, incomplete or of a newer schema."""

    http_status = 503
    concerns_all = True


class QueryError(ServingError):
    """A query cannot be read, is empty, or lacks a named key, layer or modality."""

    http_status = 422


class CountsError(QueryError):
    """Values that are not raw counts: negative, fractional, NaN or infinite."""


class AlignmentError(QueryError):
    """Features that cannot be matched to the reference's."""


class StaleFeaturesError(QueryError):
    """A request was aligned to other features than the endpoint's reference has."""

    http_status = 409
    concerns_all = True


class TooLargeError(QueryError):
    """A request is larger than the endpoint accepts."""

    http_status = 413


class OutputError(ServingError):
    """An output exists already, cannot be written, or has an unknown suffix."""

    concerns_all = True


class HubError(ServingError):
    """A hub is unreachable, refuses, or has no such bundle."""

    http_status = 502


class DeviceError(ServingError):
    """The device that computes has failed: what was asked for is not at fault, and may be asked for again."""

    http_status = 503
    concerns_all = True


class SettingsError(ServingError):
    """An environment variable that configures the endpoint has an unusable value."""

    http_status = 500


class EndpointError(ServingError):
    """An endpoint is unreachable, refuses the request, or speaks another protocol version."""

    http_status = 502
    concerns_all = True


class MediaTypeError(EndpointError):
    """A request body is in a format that the endpoint does not read."""

    http_status = 415


class FaultError(EndpointError):
    """An endpoint failed at a request: a fault of its own, which other requests need not meet."""

    http_status = 500
    concerns_all = False


class UnknownReferenceError(EndpointError):
    """An endpoint has no reference of that name, or of that version."""

    http_status = 404


class AccessError(EndpointError):
    """A request carries no key, or none of the endpoint's."""

    http_status = 401


class BusyError(EndpointError):
    """An endpoint has as much work as it accepts; `retry_after` (seconds) says when to ask again."""

    http_status = 429

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaError(BusyError):
    """A key has used up what it may for now; `retry_after` (seconds) says when it may again."""


class NotReadyError(EndpointError):
    """An endpoint is still loading its reference."""

    http_status = 503


class UnreachableError(EndpointError):
    """Nothing answers at an endpoint's address, or only a proxy does, however often it is asked."""


class DeadlineError(EndpointError):
    """An endpoint could not answer within its time limit."""

    http_status = 504


class OutOfTimeError(DeadlineError):
    """The time is over that whoever asks has given: for a query, or for a job as a whole."""
