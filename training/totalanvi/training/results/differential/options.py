"""What users choose about the tests, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from totalanvi.training.checks import as_choice, as_number, require_flags
from totalanvi.training.results.differential.hypotheses import ChangeTest

__all__ = ["Criteria", "Mode", "Pseudocounts"]

Mode = Literal["vanilla", "change"]


@dataclass(frozen=True)
class Pseudocounts:
    """What is added to expression before a fold change.

    Parameters
    ----------
    genes
        Added to ρ; `None` learns it.
    proteins
        Added to the denoised counts.
    threshold
        Mean count below which a gene is not expressed in a group.

    Raises
    ------
    ArgumentError
        For a number below 0.
    """

    genes: float | None
    proteins: float
    threshold: float

    def __post_init__(self) -> None:
        for argument, value in (
            ("pseudocounts", self.genes),
            ("protein_prior_count", self.proteins),
            ("threshold_counts", self.threshold),
        ):
            if value is not None:
                as_number(argument, value, 0)


@dataclass(frozen=True)
class Criteria:
    """When a feature differs, and what is told of it.

    Parameters
    ----------
    mode
        Which hypotheses.
    pseudocounts, change
        Of the mode ``"change"``.
    fdr_target
        Expected share of false discoveries.
    all_stats
        Tell statistics of the raw counts.

    Raises
    ------
    ArgumentError
        For another mode, a share that is not between 0 and 1, or a flag that is none.
    """

    mode: Mode
    pseudocounts: Pseudocounts
    change: ChangeTest
    fdr_target: float
    all_stats: bool

    def __post_init__(self) -> None:
        as_choice("mode", self.mode, ("vanilla", "change"))
        as_number("fdr_target", self.fdr_target, above=0, below=1, cure="give 0.05, for example")
        require_flags(all_stats=self.all_stats)
