"""Where a query's results come from, as it was written beside them: read back, and held against what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, model_validator

from totalanvi.serving.bundles.confidence_figures import ProteinReliability
from totalanvi.serving.errors import QueryError

__all__ = ["FeatureRecord", "MappingRecord"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ReferenceRecord(_Record):
    """Which reference was mapped to."""

    name: str
    version: str
    digest: str
    precision: str | None = None


class OptionsRecord(_Record):
    """How it was mapped; see `totalanvi.serving.mapped.MapOptions`."""

    impute: bool
    samples: int
    background: str
    impute_as: str
    coverage: float
    false_positive_rate: float
    keep_unknown_labels: bool
    certainty: float


class PlacesRecord(_Record):
    """Which parts of the query were read."""

    rna: str
    proteins: str


class FeatureRecord(_Record):
    """How genes, or proteins, were matched; tables by column."""

    matched: int
    missing: int
    extra: int
    missing_names: list[str]
    extra_names: list[str]
    ways: dict[str, int]
    resolved: dict[str, list[str]]
    left_out: dict[str, list[str]]
    summed: dict[str, list[str]]


class AlignmentRecord(_Record):
    """What alignment found."""

    gene_names: str
    gene_coverage: float
    gene_weight: float
    genes: FeatureRecord
    proteins: FeatureRecord
    warnings: list[str]
    notes: list[str]


class ReliabilityRecord(_Record):
    """How well RNA alone predicts each protein, by column (proteins,)."""

    protein: list[str]
    pearson: list[float | None]
    spearman: list[float | None]
    n_cells: list[int]

    @model_validator(mode="after")
    def _one_entry_per_protein(self) -> ReliabilityRecord:
        if not len(self.protein) == len(self.pearson) == len(self.spearman) == len(self.n_cells):
            raise ValueError("expected one entry for each protein, found more of some columns than of others")
        # Figures out of range are refused now.
        self.by_protein  # noqa: B018
        return self

    @property
    def by_protein(self) -> dict[str, ProteinReliability]:
        """The same by name."""
        rows = zip(self.n_cells, self.pearson, self.spearman, strict=True)
        figures = [ProteinReliability(n_cells=n, pearson=one, spearman=other) for n, one, other in rows]
        return dict(zip(self.protein, figures, strict=True))

    @property
    def doubtful(self) -> list[str]:
        """Proteins that RNA cannot predict."""
        return [name for name, known in self.by_protein.items() if not known.reliable]


class ImputationRecord(_Record):
    """What imputation warns of."""

    warnings: list[str]
    doubtful: list[str]
    """Proteins of the query that RNA cannot predict: to be told of where some of its cells lack them."""


class CellsRecord(_Record):
    """How many cells were mapped, and how many of these with proteins that were measured."""

    mapped: NonNegativeInt
    with_proteins: NonNegativeInt


class MappingRecord(_Record):
    """What `totalanvi.serving.outputs.provenance.provenance` says, out of a file or out of memory."""

    reference: ReferenceRecord
    options: OptionsRecord
    query: PlacesRecord
    alignment: AlignmentRecord
    totalanvi: str
    protein_reliability: ReliabilityRecord | None = None
    imputation: ImputationRecord | None = None
    """None where nothing was imputed, and in outputs of older versions, as `cells`."""
    cells: CellsRecord | None = None

    @classmethod
    def of(cls, uns: Mapping[str, Any], source: str) -> MappingRecord:
        """Read it.

        Parameters
        ----------
        uns
            With arrays or lists.
        source
            Names it in messages.

        Raises
        ------
        QueryError
            When something that belongs there is missing or is something else.
        """
        try:
            return cls.model_validate(_plain(uns))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise QueryError(
                f"Expected {source} to say where its results come from, as `totalanvi map` writes it; found {where!r} "
                f"amiss ({first['msg']}). Map the query again with this version."
            ) from error


def _plain(value: Any) -> Any:
    """Turn arrays into lists, and NaN into None, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and value != value else value
