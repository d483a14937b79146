"""What a bundle's graphs compute with, where that is less than float32, and what it costs."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from totalanvi.serving.bundles.modes import MODE_NAMES, MODES, Mode
from totalanvi.serving.bundles.schema import Schema

__all__ = ["LOWERED", "Change", "Lowered", "ModeCost", "PrecisionCost", "precision_lines", "precision_summary"]

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


def precision_summary(cost: PrecisionCost) -> str:
    """Sum up in one sentence what precision costs and saves.

    Parameters
    ----------
    cost
        Of a bundle.
    """
    sizes = f"takes {cost.bytes_after / 1e6:.1f} MB instead of {cost.bytes_before / 1e6:.1f}"
    seen = {mode: found for mode, found in cost.modes.items() if found.n_cells}
    if not seen:
        return f"{cost.precision} {sizes}; what it does to labels was not measured, for want of cells."
    most = max(seen, key=lambda mode: seen[mode].changed)
    labels = "changes no label"
    if seen[most].changed:
        labels = f"changes the label of at most {_percent(seen[most].changed)}% of {_cells(cost)} ({MODE_NAMES[most]})"
    lost = [found.accuracy.before - found.accuracy.after for found in seen.values() if found.accuracy is not None]
    accuracy = f", lowers accuracy by at most {_percent(max(lost))} percentage points" if lost else ""
    if lost and max(lost) <= 0:
        accuracy = ", lowers accuracy in no query mode"
    return f"Beside float32, {cost.precision} {labels}{accuracy}, and {sizes}."


def precision_lines(cost: PrecisionCost) -> list[str]:
    """Say what precision costs: all of it in a sentence, then labels in each query mode, the latent, proteins.

    Parameters
    ----------
    cost
        Of a bundle.
    """
    moved = [found for found in cost.modes.values() if found.n_cells]
    mean = max((found.latent_mean for found in moved), default=0.0)
    largest = max((found.latent_largest for found in moved), default=0.0)
    known = "" if cost.correlation is None else f"; mean correlation with measured ones {_change(cost.correlation)}"
    return [
        precision_summary(cost),
        *(f"{MODE_NAMES[mode]}: {_labels(mode, found, _cells(cost))}" for mode, found in cost.modes.items()),
        f"latent: cells move by {mean:.2%} of the distance between near landmarks, {largest:.2%} at most",
        f"imputed proteins: counts change by {cost.count_change:.2%} (median){known}",
    ]


def _cells(cost: PrecisionCost) -> str:
    return "held-out cells" if cost.held_out else "training cells"


def _labels(mode: Mode, found: ModeCost, cells: str) -> str:
    if not found.n_cells:
        return f"not measured, as no {cells} can be mapped so"
    # A cell is mapped several times there, so that there are more of them than elsewhere.
    times = " (each counts once for each part of its panel)" if mode == "part" else ""
    n_changed = round(found.changed * found.n_cells)
    share = f"{n_changed:,} of {found.n_cells:,} {cells}{times} {'gets' if n_changed == 1 else 'get'} another label"
    if found.accuracy is None or found.log_loss is None:
        return share
    return f"{share}; accuracy {_change(found.accuracy)}, log-loss {_change(found.log_loss)}"


def _percent(share: float) -> str:
    """Write a share that is more than nothing so that it does not read as nothing."""
    return f"{max(100 * share, 0.01):.2f}"


def _change(figure: Change) -> str:
    return f"{figure.after:.3f} ({figure.before:.3f} in float32)"
