"""Requests that were read and understood: each is verified and aligned by itself before it joins the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.endpoint.catalogue import Offer
from totalanvi.serving.endpoint.predict import align_request, answer_request
from totalanvi.serving.errors import QueryError, TooLargeError
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.wire.chunks import (
    MEDIA_TYPE,
    ChunkResponse,
    ReferenceStamp,
    decode_request,
    encode_response,
    requested_reference,
)
from totalanvi.serving.wire.limits import Limits
from totalanvi.serving.wire.schemas import PredictRequest

__all__ = ["Answer", "Find", "Job", "chunk_job", "json_job", "parse_body", "within_limits"]

_Body = TypeVar("_Body", bound=BaseModel)

Find = Callable[[str | None], Offer]
"""Finds the reference that a request names in its body, if it names one there."""


@dataclass(frozen=True)
class Answer:
    """The body of an answer, and what HTTP has to be told of it."""

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """What is left of a request once it was understood: cells to map, and how to write the answer.

    Parameters
    ----------
    offer
        The reference that is meant.
    cells
        Aligned to it.
    options
        How to map them.
    answer
        Turns results into the answer.
    gene_weight
        Share of what the reference has learned that the query's genes carry, where that is known.
    """

    offer: Offer
    cells: AlignedCells
    options: MapOptions
    answer: Callable[[MappedCells], Answer]
    gene_weight: float | None = None

    @property
    def cost(self) -> int:
        """What it costs to compute: a unit for each count that is not zero, and one for each cell."""
        return int(self.cells.rna.nnz) + len(self.cells)


def chunk_job(body: bytes, find: Find, limits: Limits) -> Job:
    """Understand a chunk in the binary format.

    Raises
    ------
    QueryError
        When the chunk is not what `totalanvi.serving.wire.chunks` describes.
    """
    offer = find(requested_reference(body))
    info = offer.info
    request = decode_request(
        body,
        features=info.features_digest,
        n_genes=info.n_genes,
        n_proteins=len(info.proteins),
        max_cells=limits.max_cells,
    )
    stamp = ReferenceStamp(info.name, info.version, info.digest)
    return Job(
        offer,
        within_limits(request.cells, limits),
        request.options,
        lambda mapped: Answer(encode_response(ChunkResponse(stamp, mapped)), MEDIA_TYPE),
        gene_weight=_weight_of(request.cells, offer),
    )


def json_job(body: bytes, find: Find, limits: Limits) -> Job:
    """Understand a JSON request.

    Raises
    ------
    QueryError
        When the body is not a `PredictRequest`, or its cells cannot be aligned.
    """
    request = parse_body(
        PredictRequest,
        body,
        '{"cells": [{"genes": {NAME: COUNT, …}, "proteins": {NAME: COUNT, …}}, …]}, with raw counts (whole numbers, 0 '
        "or more)",
    )
    if len(request.cells) > limits.max_cells:
        raise TooLargeError(
            f"Expected at most {limits.max_cells} cells, found {len(request.cells)}; send fewer at a time."
        )
    offer = find(request.reference)
    aligned = align_request(offer.features, offer.index, request)
    options = MapOptions(**request.options.model_dump())

    def answer(mapped: MappedCells) -> Answer:
        body = answer_request(offer.info, offer.features, aligned, options, mapped)
        return Answer(body.model_dump_json().encode(), "application/json")

    return Job(offer, within_limits(aligned.cells, limits), options, answer, aligned.report.gene_weight)


def parse_body(schema: type[_Body], body: bytes, expected: str) -> _Body:
    """Read a JSON body.

    Parameters
    ----------
    schema
        What it has to be.
    body
        As it came.
    expected
        The same in words, for whoever sent something else.

    Raises
    ------
    QueryError
        When it is something else: the first place that is is named, and nothing that was in it.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the body"
        raise QueryError(f"Expected {expected}; found at {where}: {first['msg']}.") from error


def within_limits(cells: AlignedCells, limits: Limits) -> AlignedCells:
    """Return cells that do not have too many counts together.

    Raises
    ------
    TooLargeError
        When they do.
    """
    if cells.rna.nnz > limits.max_nonzeros:
        raise TooLargeError(
            f"Expected at most {limits.max_nonzeros} counts that are not zero, found {cells.rna.nnz}; send fewer cells "
            "at a time."
        )
    return cells


def _weight_of(cells: AlignedCells, offer: Offer) -> float:
    if cells.present is None:
        return 1.0
    return float(offer.index.gene_weight[cells.present].sum())
