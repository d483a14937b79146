"""When a query has too few genes, and what the reference's own cells lost with theirs: where that comes from."""

from __future__ import annotations

from pydantic import Field

from totalanvi.serving.bundles.schema import Schema

__all__ = ["AblationPoint", "GeneAblation", "Thresholds"]


class AblationPoint(Schema):
    """How well reference cells are labelled by a part of the genes."""

    gene_weight: float = Field(ge=0, le=1)
    """What the remaining genes carry."""
    accuracy: float = Field(ge=0, le=1)


class GeneAblation(Schema):
    """What the reference's own cells lose with genes, from RNA alone: where the thresholds come from."""

    n_cells: int = Field(ge=1)
    held_out: bool
    """Whether training did not see these cells."""
    chance: float = Field(ge=0, le=1)
    """Accuracy of the commonest label."""
    curve: list[AblationPoint] = Field(min_length=1)
    """By rising weight, smoothed so that it never falls; the last point is all genes."""


class Thresholds(Schema):
    """When alignment warns and when it refuses: shares of the model's learned weight that matched genes carry."""

    gene_weight_warn: float = Field(ge=0, le=1)
    gene_weight_refuse: float = Field(ge=0, le=1)
    ablation: GeneAblation | None = None
    """None for thresholds that were set by hand, and for a reference without a labelled cell: then both are 0."""
