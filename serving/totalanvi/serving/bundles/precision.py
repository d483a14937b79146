"""What a bundle's graphs compute with, where that is less than float32, and what it costs."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from totalanvi.serving.bundles.modes import MODE_NAMES, MODES, Mode
from totalanvi.serving.bundles.schema import Schema

__all__ = ["LOWERED", "Change", "Lowered", "ModeCost", "PrecisionCost", "precision_lines"]

Lowered = Literal["float16", "bfloat16", "int8"]
"""What weights of matrix products are stored in, instead of float32. In "float16", the graphs that a device computes
multiply in it as well; in "bfloat16", products are in float32; in "int8", whole numbers of eight bits are multiplied in
the larger products; smaller ones are in float32, and weights of first layers in bfloat16."""

LOWERED: tuple[Lowered, ...] = get_args(Lowered)


class Change(Schema):
    """A figure of the float32 graphs, and the same of those that are served."""

    before: float
    after: float


class ModeCost(Schema):
    """What lower precision does to the labels and the latent of one query mode."""

    n_cells: int = Field(ge=0)
    """Cells that were compared; a cell counts for each part of its panel."""
    changed: float = Field(ge=0, le=1)
    """Share of them whose likeliest label is another one."""
    accuracy: Change | None
    """None where no cell has a label."""
    log_loss: Change | None
    """Each with a temperature of its own."""
    latent_mean: float = Field(ge=0)
    """How far a cell moves, as a share of the distance from a landmark of the reference to its nearest others."""
    latent_largest: float = Field(ge=0)
    """The same of the cell that moves furthest."""


class PrecisionCost(Schema):
    """What a bundle's precision costs beside float32, on reference cells, through the production engine on a CPU."""

    precision: Lowered
    held_out: bool
    """Whether training did not see these cells."""
    modes: dict[Mode, ModeCost]
    """All of them."""
    correlation: Change | None
    """Of proteins imputed from RNA alone with measured ones (Pearson, log1p), a mean over proteins; None where none was
    measured."""
    count_change: float = Field(ge=0)
    """Median relative change of imputed counts."""
    bytes_before: int = Field(ge=0)
    """Of the bundle's files, but for its manifest and its pages, in float32."""
    bytes_after: int = Field(ge=0)
    """The same as it is."""

    @field_validator("modes")
    @classmethod
    def _each_mode(cls, modes: dict[Mode, ModeCost]) -> dict[Mode, ModeCost]:
        if missing := [mode for mode in MODES if mode not in modes]:
            raise ValueError(f"expected an entry for each of {list(MODES)}, found none for {missing}")
        return modes


def precision_lines(cost: PrecisionCost) -> list[str]:
    """Say what precision costs: labels, then the rest.

    Parameters
    ----------
    cost
        Of a bundle.
    """
    cells = "held-out" if cost.held_out else "training"
    modes = "; ".join(f"{MODE_NAMES[mode]} {_labels(found)}" for mode, found in cost.modes.items() if found.n_cells)
    moved = [found for found in cost.modes.values() if found.n_cells]
    mean = max((found.latent_mean for found in moved), default=0.0)
    largest = max((found.latent_largest for found in moved), default=0.0)
    known = "" if cost.correlation is None else f", mean correlation {_change(cost.correlation)}"
    return [
        f"{cost.precision}; labels of {cells} cells that are not those of float32: {modes or 'not measured'}",
        f"the latent moves by {mean:.2%} of the distance between near landmarks, {largest:.2%} at most; imputed counts "
        f"by {cost.count_change:.2%}{known}; {cost.bytes_after / 1e6:.1f} MB, {cost.bytes_before / 1e6:.1f} in float32",
    ]


def _labels(found: ModeCost) -> str:
    share = f"{found.changed:.2%} of {found.n_cells:,}"
    if found.accuracy is None or found.log_loss is None:
        return share
    return f"{share} (accuracy {_change(found.accuracy)}, log-loss {_change(found.log_loss)})"


def _change(figure: Change) -> str:
    return f"{figure.before:.3f} → {figure.after:.3f}"
