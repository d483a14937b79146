"""What training hides from the encoder."""

from __future__ import annotations

from dataclasses import dataclass

from totalanvi.training.errors import ArgumentError
from totalanvi.training.option_checks import require_range

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """What is hidden from the encoder while it trains, because queries will come without it.

    Panels and counts are hidden in a second view of each mini-batch (`TotalVAE.with_hidden_view`); the batch in both.

    Parameters
    ----------
    no_panel
        Share of cells whose whole protein panel is hidden.
    part_panel
        Share of cells of whose panel a random part is hidden.
    unknown_batch
        Share of cells whose batch is hidden.
    thinning
        Share of cells whose RNA counts are thinned binomially, to a random depth between ``thinning_floor`` and 1.
    thinning_floor
        Least share of the counts that thinning leaves.

    Raises
    ------
    ArgumentError
        For shares outside [0, 1], and for panels hidden, whole and in part, of more than all cells.

    Examples
    --------
    >>> Augmentation(no_panel=0.5, part_panel=0.5).thinning
    0.0
    """

    no_panel: float = 0.6
    part_panel: float = 0.2
    unknown_batch: float = 0.5
    thinning: float = 0.0
    thinning_floor: float = 0.25

    def __post_init__(self) -> None:
        require_range(self, ("no_panel", "part_panel", "unknown_batch", "thinning", "thinning_floor"), 0, 1)
        if self.no_panel + self.part_panel > 1 + 1e-9:
            raise ArgumentError(
                "no_panel and part_panel: expected shares of the same cells, 1 in all at most, found "
                f"{self.no_panel} and {self.part_panel}; lower one of them."
            )
