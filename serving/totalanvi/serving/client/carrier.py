"""How a client's questions reach an endpoint: over HTTP from elsewhere, through a pipe from a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from totalanvi.serving import errors
from totalanvi.serving.errors import EndpointError, ServingError

__all__ = ["Carrier", "named_error", "parse_answer"]

Body = TypeVar("Body", bound=BaseModel)


class Carrier(Protocol):
    """Carries questions to one endpoint, from several threads; what the endpoint raised is raised here."""

    @property
    def url(self) -> str:
        """Where the endpoint is, for messages."""

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""

    def get(self, path: str) -> bytes:
        """Return the answer to a GET."""

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the answer to a POST."""

    def close(self) -> None:
        """Let go of the endpoint."""


def parse_answer(carrier: Carrier, path: str, answer: bytes, schema: type[Body]) -> Body:
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
            f"{carrier.url}{path}: the answer cannot be understood at {where!r}: {first['msg']}; "
            "upgrade the older of client and endpoint."
        ) from error


def named_error(name: str, message: str) -> ServingError:
    """Return the error that an endpoint answered with, as the class that it was there."""
    found = getattr(errors, name, None) if name in errors.__all__ else None
    kind: type[ServingError] = EndpointError if found is None else found
    return kind(message)
