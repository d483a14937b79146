"""How much an endpoint takes on: limits that a client is told of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Limits", "variable"]

PREFIX = "TOTALANVI_"
"""Of the environment variables: ``TOTALANVI_MAX_CELLS`` sets `Limits.max_cells`, and so on."""


class Limits(BaseModel):
    """How much an endpoint takes on at a time; see `totalanvi.serving.endpoint.settings` for how they are set.

    Examples
    --------
    >>> Limits(max_cells=100).max_cells
    100
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    """Size of one request's body, as sent and once decompressed."""
    max_json_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Size of one JSON body: JSON is for a few cells, and costs ten times its size to read."""
    max_arriving_bytes: int = Field(default=512 * 2**20, ge=1024)
    """What has arrived of all bodies that are not yet whole; one that exceeds it is answered 429."""
    max_cells: int = Field(default=8192, ge=1)
    """Cells in one request."""
    max_nonzeros: int = Field(default=2**24, ge=1)
    """Counts that are not zero in one request."""
    max_concurrency: int = Field(default=2, ge=1)
    """Requests computed at the same time; each of them uses all cores where it can."""
    max_queue: int = Field(default=32, ge=0)
    """Requests that may wait for those; one more is answered 429."""
    max_queue_nonzeros: int = Field(default=2**26, ge=1)
    """What requests at work and waiting may cost together: a unit for each count that is not zero and each cell."""
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


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper()
