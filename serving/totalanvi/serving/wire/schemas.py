"""JSON bodies of the endpoint's routes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from totalanvi.serving.alignment.report import AlignmentReport
from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.intervals import MAX_COVERAGE, MIN_COVERAGE
from totalanvi.serving.mapped import MAX_FALSE_POSITIVE_RATE, MAX_SAMPLES, MIN_CERTAINTY, Background
from totalanvi.serving.wire.limits import Limits

__all__ = [
    "EndpointInfo",
    "FeaturesAnswer",
    "LabelsAnswer",
    "PredictAnswer",
    "PredictCell",
    "PredictOptions",
    "PredictRequest",
    "PredictedCell",
    "ReferenceListed",
    "ReferenceName",
    "ReferencesAnswer",
]

Count = Annotated[int, Field(ge=0, lt=2**31)]
"""A raw count: a whole number, 0 or more."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PredictCell(_Body):
    """One cell's raw counts by name; what is not named is 0 for a gene, and not measured for a protein.

    A protein that is named was measured, also where all are 0; in a file, which names all proteins for every cell, a
    cell whose proteins are all 0 is one without.
    """

    id: str | None = None
    """Repeated in the answer; the cell's place in the request (``"0"``, ``"1"``, …) when left out."""
    genes: dict[str, Count]
    proteins: dict[str, Count] = {}


class PredictOptions(_Body):
    """How to map; see `totalanvi.serving.mapped.MapOptions`."""

    impute: bool = True
    samples: int = Field(default=25, ge=1, le=MAX_SAMPLES)
    background: Background = "exclude"
    impute_as: str | None = None
    coverage: float = Field(default=0.9, ge=MIN_COVERAGE, le=MAX_COVERAGE)
    false_positive_rate: float = Field(default=0.01, ge=0, le=MAX_FALSE_POSITIVE_RATE)
    keep_unknown_labels: bool = False
    certainty: float = Field(default=0.9, ge=MIN_CERTAINTY, le=1)


class PredictRequest(_Body):
    """Body of ``POST /v1/predict``.

    Examples
    --------
    >>> request = PredictRequest.model_validate_json('{"cells": [{"genes": {"CD3E": 3}, "proteins": {"CD4": 10}}]}')
    >>> request.cells[0].genes
    {'CD3E': 3}
    """

    cells: list[PredictCell] = Field(min_length=1)
    measured_genes: list[str] | None = None
    """All genes that the experiment could see, for a panel; left out, it could see all of the reference's."""
    options: PredictOptions = PredictOptions()
    reference: str | None = None
    """Name of the reference that is meant, or ``NAME@VERSION``; the endpoint's default one when left out."""


class ReferenceName(_Body):
    """Which reference mapped the cells."""

    name: str
    version: str
    digest: str


class PredictedCell(_Body):
    """What a cell is mapped to."""

    id: str
    label: str
    """``"unknown"`` for a cell that is more novel than cells like the reference's are."""
    guess: str
    """The likeliest label, whatever the novelty."""
    certain: str | None
    """The label, or its nearest ancestor, that is as certain as the options ask for; ``"unknown"`` where none is, null
    where the reference's labels have no parents."""
    confidence: float
    novelty: float
    probabilities: dict[str, float]
    label_set: list[str]
    """Labels that fit as well as those of the asked-for share of the reference's cells fit them; may be empty."""
    latent: list[float]
    coordinates: tuple[float, float]
    proteins: dict[str, float] | None
    """Imputed; null, like the next two, when not asked for."""
    protein_intervals: dict[str, tuple[float, float] | None] | None
    """Lower and upper bound of the count that would be measured; null for a protein of which too little is known."""
    protein_foreground: dict[str, float] | None
    """Probability that a count is more than background."""


class PredictAnswer(_Body):
    """Answer of ``POST /v1/predict``: one entry per cell, in order."""

    reference: ReferenceName
    cells: list[PredictedCell]
    unknown_genes: list[str]
    """Names that the reference does not know and that were ignored; the first 20."""
    unknown_proteins: list[str]
    warnings: list[str]
    alignment: AlignmentReport
    """How the names of all cells were resolved; each cell's by itself."""


class EndpointInfo(ReferenceInfo):
    """Answer of ``GET /v1/info``: the reference, and what the endpoint accepts."""

    protocol: int
    """Version of the routes and of the chunk format."""
    server: str
    """Version of the software."""
    limits: Limits


class ReferenceListed(_Body):
    """A reference that can be asked for."""

    name: str
    version: str
    digest: str
    created: str
    default: bool
    """Whether it is meant where a request names none."""
    loaded: bool
    """Whether it is in memory; the first request to one that is not waits until it is."""
    n_genes: int
    n_proteins: int
    n_labels: int


class ReferencesAnswer(_Body):
    """Answer of ``GET /v1/references``."""

    references: list[ReferenceListed]
    """By name, the newest version of each first: the one that a name without a version means."""
    refused: list[str]
    """Folders among the bundles that hold none that can be served; the endpoint's log says why."""


class FeaturesAnswer(_Body):
    """Answer of ``GET /v1/features``: what queries are aligned to."""

    digest: str
    """To be named in every chunk that is aligned to these features."""
    features: ReferenceFeatures


class LabelsAnswer(_Body):
    """Answer of ``GET /v1/labels``."""

    labels: list[str]
