"""What one training step is told besides its cells."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["StepWeights"]


@dataclass(frozen=True)
class StepWeights:
    """Weights of the parts of the loss in one step; scalars on the device where it is recorded (see `captured`)."""

    kl: float | Tensor
    """Weight of the divergences."""
    protein: float | Tensor
    """Weight of the protein likelihood."""
    adversary: float | Tensor | None
    """Weight of fooling the adversary; `None` where there is none, or where it rests."""
