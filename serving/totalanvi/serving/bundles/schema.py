"""What every part of a manifest has in common: no unknown fields, no changes, no NaN."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Schema"]


class Schema(BaseModel):
    """A part of a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
