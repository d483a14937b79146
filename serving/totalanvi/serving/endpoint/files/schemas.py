"""JSON bodies of the routes for files in steps."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["UploadAnswer", "UploadState"]


class UploadState(BaseModel):
    """How far a file has come that stays for a while."""

    model_config = ConfigDict(frozen=True)

    id: str
    """What it is asked for by; a secret of whoever sent it."""
    stage: str
    """``receiving``, ``waiting``, ``reading``, ``uploaded``, ``mapping``, ``writing`` or ``mapped``."""
    cells: int
    """Cells that were mapped."""
    total: int | None
    """Cells that the file has, once that is known."""
    kept_seconds: float
    """The file is removed when nobody asks for it for so long."""


class UploadAnswer(UploadState):
    """Answer of ``POST /v1/uploads``."""

    preview: dict[str, Any]
    """What is in the file, and how its names match; see `totalanvi.serving.mapping.beforehand.Preview`."""
