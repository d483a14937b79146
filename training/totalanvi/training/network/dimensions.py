"""Sizes that the reference sets, and nobody chooses."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Dimensions"]


@dataclass(frozen=True)
class Dimensions:
    """Sizes that the reference sets.

    Parameters
    ----------
    n_genes, n_proteins, n_batches, n_panels, n_labels
        How many there are; a model without labels has none.
    n_categories
        Categories of each categorical covariate.
    n_continuous
        Continuous covariates.
    has_size_factor
        Whether a size factor takes the place of the library size.
    """

    n_genes: int
    n_proteins: int
    n_batches: int
    n_panels: int
    n_labels: int = 0
    n_categories: tuple[int, ...] = ()
    n_continuous: int = 0
    has_size_factor: bool = False

    @property
    def n_injected(self) -> int:
        """Width of what every layer sees besides its input: batch and categorical covariates, one-hot."""
        return self.n_batches + sum(self.n_categories)
