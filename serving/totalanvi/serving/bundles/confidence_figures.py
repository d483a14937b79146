"""What a manifest says about certainty: figures of held-out reference cells, per query mode and per protein."""

from __future__ import annotations

from pydantic import Field

from totalanvi.serving.bundles.schema import Schema

__all__ = ["ModeConfidence", "ProteinReliability", "UNRELIABLE_BELOW"]

UNRELIABLE_BELOW = 0.3
"""A protein whose imputed and measured counts correlate less than this (Pearson, log1p, held-out cells) is one that RNA
alone does not predict: less than a tenth of its variance is explained."""


class ModeConfidence(Schema):
    """Label sets and novelty of held-out reference cells in one query mode.

    The label sets are cross-fitted: half of the cells set the threshold for the other half.
    """

    coverage: float = Field(ge=0, le=1)
    """What label sets were asked for."""
    n_labelled: int = Field(ge=0)
    set_coverage: float | None
    """Share of labelled cells whose set holds their label; None when there are too few cells to tell."""
    set_size: float | None
    """Labels in a set, on average."""
    empty_sets: float | None
    """Share of sets without a label."""
    n_cells: int = Field(ge=0)
    """Novelty scores of held-out cells, unlabelled ones included; a cell has one for each part of its panel."""
    false_positive_rate: float = Field(ge=0, le=1)
    novelty_threshold: float
    """Novelty score beyond which that share of cells like the reference's lies."""


class ProteinReliability(Schema):
    """How well RNA alone predicts a protein: imputed against measured counts of held-out reference cells."""

    n_cells: int = Field(ge=0)
    pearson: float | None = Field(ge=-1, le=1)
    """Of log1p counts, imputed with background; None where either does not vary."""
    spearman: float | None = Field(ge=-1, le=1)
    """Of measured counts and those imputed without background."""

    @property
    def reliable(self) -> bool:
        """Whether imputed values are worth reading; what was not measured is not doubted."""
        return self.pearson is None or self.pearson >= UNRELIABLE_BELOW
