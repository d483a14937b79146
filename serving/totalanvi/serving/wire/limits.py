"""How much an endpoint takes on: limits, each set by an environment variable, that a client is told of."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from totalanvi.serving.errors import SettingsError

__all__ = ["Limits"]

PREFIX = "TOTALANVI_"
"""Of the environment variables: ``TOTALANVI_MAX_CELLS`` sets `Limits.max_cells`, and so on."""


class Limits(BaseModel):
    """How much an endpoint takes on at a time; each is set by the environment variable of its name.

    Examples
    --------
    >>> Limits.from_environment({"TOTALANVI_MAX_CELLS": "100"}).max_cells
    100
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    """Size of one request's body, as sent and once decompressed."""
    max_json_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Size of one JSON body: JSON is for a few cells, and costs ten times its size to read."""
    max_cells: int = Field(default=8192, ge=1)
    """Cells in one request."""
    max_concurrency: int = Field(default=2, ge=1)
    """Requests computed at the same time; each of them uses all cores where it can."""
    max_queue: int = Field(default=32, ge=0)
    """Requests that may wait for those; one more is answered 429."""
    request_seconds: float = Field(default=120, gt=0)
    """Time for one request from its first byte to its answer, waiting included; past it the answer is 504."""
    max_file_bytes: int = Field(default=2**30, ge=1024)
    """Size of an uploaded file."""
    max_file_inflated_bytes: int = Field(default=16 * 2**30, ge=1024)
    """What its data sets may hold together once they are read."""
    max_file_cells: int = Field(default=1_000_000, ge=1)
    """Cells in an uploaded file."""
    max_files: int = Field(default=2, ge=1)
    """Uploaded files that are mapped at the same time, each by a process of its own; four times as many may arrive."""
    file_memory_bytes: int = Field(default=4 * 2**30, ge=1024)
    """Address space of such a process."""
    file_seconds: float = Field(default=600, gt=0)
    """Time for a file from its first byte to its answer, and of processors for its process."""
    max_kept_files: int = Field(default=8, ge=1)
    """Uploaded files that stay for a while (`/v1/uploads`), each with what became of it."""
    max_kept_bytes: int = Field(default=8 * 2**30, ge=1024)
    """What these and their results may take together; as much room as that is needed on disk beside other uploads."""
    kept_seconds: float = Field(default=1800, gt=0)
    """Such a file is removed when nobody has asked for it for so long."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """Read the limits, with defaults for those that are not set.

        Parameters
        ----------
        environment
            Such as `os.environ`.

        Raises
        ------
        SettingsError
            When a value is no number, or out of range.
        """
        values = {name: environment[variable(name)] for name in cls.model_fields if variable(name) in environment}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0])
            raise SettingsError(
                f"{variable(name)}: expected a number in range, found {values[name]!r} ({first['msg']}); "
                "set it to another value, or leave it out."
            ) from error


def variable(name: str) -> str:
    """Return the environment variable that sets a limit."""
    return PREFIX + name.upper()
