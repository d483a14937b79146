"""What a query is aligned to: the features of a reference, and the interface that every reference offers.

A bundle opened in this process and an endpoint on another machine differ only in where `Reference.score` computes. All
else, from the query's file to the annotated output, is the same code (`totalanvi.serving.mapping.scorer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.bundles.manifest import Manifest
from totalanvi.serving.bundles.thresholds import Thresholds

if TYPE_CHECKING:
    from totalanvi.serving.cells import AlignedCells
    from totalanvi.serving.mapped import MapOptions, MappedCells

__all__ = ["Reference", "ReferenceFeatures", "ShownReference"]


class ReferenceFeatures(BaseModel):
    """The names of a reference, in model order, and what alignment needs to judge a query by.

    JSON-able, so that an endpoint can hand it to its clients (`model_dump_json`, `model_validate_json`).

    Parameters
    ----------
    genes
        Gene names (genes,).
    ensembl_ids
        Ensembl id of each gene where known (genes,), or None when none is.
    gene_symbols
        Symbol of each gene of a reference that names them otherwise, where known (genes,), or None.
    proteins
        Protein names (proteins,).
    labels
        Label names (labels,).
    parents
        The parent of each label or ancestor that has one.
    gene_share
        Average share of a reference cell's counts that each gene has (genes,); sums to 1.
    gene_weight
        Share of what the model has learned from genes that each gene has (genes,); sums to 1.
    thresholds
        The gene weight below which alignment warns, and below which it refuses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    genes: tuple[str, ...] = Field(min_length=1)
    ensembl_ids: tuple[str | None, ...] | None = None
    gene_symbols: tuple[str | None, ...] | None = None
    proteins: tuple[str, ...] = ()
    labels: tuple[str, ...]
    parents: dict[str, str] = {}
    gene_share: tuple[float, ...]
    gene_weight: tuple[float, ...]
    thresholds: Thresholds

    @model_validator(mode="after")
    def _one_entry_per_gene(self) -> ReferenceFeatures:
        for name in ("gene_share", "gene_weight", "ensembl_ids", "gene_symbols"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.genes):
                raise ValueError(f"{name}: expected one entry for each of {len(self.genes)} genes, found {len(values)}")
        return self

    @classmethod
    def from_manifest(
        cls, manifest: Manifest, gene_share: Sequence[float], gene_weight: Sequence[float]
    ) -> ReferenceFeatures:
        """Take the features out of a bundle's manifest, its average profile and its weights (genes,)."""
        genes = manifest.genes
        return cls(
            genes=tuple(genes.names),
            ensembl_ids=None if genes.ensembl_ids is None else tuple(genes.ensembl_ids),
            gene_symbols=None if genes.symbols is None else tuple(genes.symbols),
            proteins=tuple(manifest.proteins),
            labels=tuple(manifest.labels),
            parents=manifest.parents,
            gene_share=tuple(float(share) for share in gene_share),
            gene_weight=tuple(float(weight) for weight in gene_weight),
            thresholds=manifest.thresholds,
        )


class Reference(Protocol):
    """What the scorer needs of a reference, whether it is a bundle in this process or an endpoint."""

    @property
    def features(self) -> ReferenceFeatures:
        """The features that queries are aligned to."""

    @property
    def in_flight(self) -> int:
        """How many chunks are worth scoring at a time: one on a device, two on the cores here, a few over a network."""

    def info(self) -> ReferenceInfo:
        """Which reference this is; name, version and digest go into every output."""

    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        """Map one chunk of aligned cells; called from `in_flight` threads at a time."""


class ShownReference(Reference, Protocol):
    """What a report needs besides."""

    def landmarks(self) -> npt.NDArray[np.float32]:
        """Places of the reference's own cells on its map, (landmarks, 2)."""
