"""Requests that were read and understood: each is verified and aligned by itself before it joins the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.endpoint.catalogue import Offer
from totalanvi.serving.endpoint.predict import align_request, answer_request
from totalanvi.serving.errors import QueryError, TooLargeError
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.wire.chunks import (
    ChunkResponse,
    ReferenceStamp,
    decode_request,
    encode_response,
    requested_reference,
)
from totalanvi.serving.wire.limits import Limits
from totalanvi.serving.wire.schemas import PredictRequest

__all__ = ["Find", "Job", "chunk_job", "json_job"]

Find = Callable[[str | None], Offer]
"""Finds the reference that a request names in its body, if it names one there."""


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
        Turns results into the body of the answer.
    gene_weight
        Share of what the reference has learned that the query's genes carry, where that is known.
    """

    offer: Offer
    cells: AlignedCells
    options: MapOptions
    answer: Callable[[MappedCells], bytes]
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
        _within(request.cells, limits),
        request.options,
        lambda mapped: encode_response(ChunkResponse(stamp, mapped)),
        gene_weight=_weight_of(request.cells, offer),
    )


def json_job(body: bytes, find: Find, limits: Limits) -> Job:
    """Understand a JSON request.

    Raises
    ------
    QueryError
        When the body is not a `PredictRequest`, or its cells cannot be aligned.
    """
    try:
        request = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the body"
        raise QueryError(
            'Expected {"cells": [{"genes": {NAME: COUNT, …}, "proteins": {NAME: COUNT, …}}, …]}, with raw counts '
            f"(whole numbers, 0 or more); found at {where}: {first['msg']}."
        ) from error
    if len(request.cells) > limits.max_cells:
        raise TooLargeError(
            f"Expected at most {limits.max_cells} cells, found {len(request.cells)}; send fewer at a time."
        )
    offer = find(request.reference)
    aligned = align_request(offer.features, offer.index, request)
    options = MapOptions(**request.options.model_dump())
    return Job(
        offer,
        _within(aligned.cells, limits),
        options,
        lambda mapped: answer_request(offer.info, offer.features, aligned, options, mapped).model_dump_json().encode(),
        gene_weight=aligned.report.gene_weight,
    )


def _within(cells: AlignedCells, limits: Limits) -> AlignedCells:
    """Refuse cells that have too many counts together."""
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
