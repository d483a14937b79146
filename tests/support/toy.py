"""Names of the toy reference (see `toy_bundle`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["TOY", "Toy"]


@dataclass(frozen=True)
class Toy:
    """Names of the toy reference, in model order."""

    labels: list[str] = field(default_factory=lambda: ["B cell", "CD4 T", "CD8 T", "NK"])
    genes: list[str] = field(default_factory=lambda: [f"GENE{i:03d}" for i in range(60)])
    proteins: list[str] = field(default_factory=lambda: ["CD19", "CD4", "CD8a", "CD56", "CD45", "IgG1"])
    batches: list[str] = field(default_factory=lambda: ["run1", "run2"])

    @property
    def parents(self) -> dict[str, str]:
        """T cells, and lymphocytes, which all of them are."""
        return {"CD4 T": "T cell", "CD8 T": "T cell", "T cell": "lymphocyte", "B cell": "lymphocyte"}

    @property
    def ensembl_ids(self) -> list[str | None]:
        """One id per gene, none for the last."""
        return [*(f"ENSG{i:011d}" for i in range(len(self.genes) - 1)), None]

    @property
    def protein_batches(self) -> list[list[bool]]:
        """The first batch lacks the last protein, the second has all."""
        return [[True] * (len(self.proteins) - 1) + [False], [True] * len(self.proteins)]

    @property
    def n_latent(self) -> int:
        """One dimension per label and one that follows the depth of a cell."""
        return len(self.labels) + 1

    @property
    def markers(self) -> npt.NDArray[np.bool_]:
        """Which gene marks which label, (labels, genes): ten each, the rest mark none."""
        marks = np.zeros((len(self.labels), len(self.genes)), dtype=bool)
        for k in range(len(self.labels)):
            marks[k, 10 * k : 10 * (k + 1)] = True
        return marks


TOY = Toy()
