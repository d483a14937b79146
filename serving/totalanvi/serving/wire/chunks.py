"""The binary chunk format of ``POST /v1/map``: aligned cells one way, mapped cells the other, as Arrow IPC streams.

A request has one row per cell::

    gene_indices    list<uint16 | int32>         the model genes with a count, ascending, none twice
    gene_counts     list<count>                  their counts
    library         float32                      total count over the model's genes / gene coverage of the query
    protein_counts  fixed_size_list<count>[proteins]  null: no protein measured; null or NaN inside: that one was not

where a count is float32, uint16 or uint8, for each of the two columns whichever holds all of it, and the schema
metadata ``totalanvi``: ``{"protocol": 4, "reference": NAME, "features": DIGEST, "options": {…},
"present": BITS}``, where NAME is that of one of the endpoint's references, with ``@VERSION`` or without, or null for
its default one, DIGEST names the genes and proteins that the indices refer to, the options are `MapOptions`, and BITS
says which of the genes the query has: a bit each, the first gene in the highest, in base64; null when it has all. A
response has one row per cell in the same order, the columns of `MappedCells`, and the metadata ``{"protocol": 4,
"reference": {name, version, digest}}``.

Nothing in a request is believed: `decode_request` raises `QueryError`, or returns cells that the engine can run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import EndpointError, QueryError, StaleFeaturesError
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells
from totalanvi.serving.wire.arrow_columns import plain_array, row_array, row_lists
from totalanvi.serving.wire.arrow_stream import read_metadata, read_stream, write_stream
from totalanvi.serving.wire.counts import (
    COUNT_TYPES,
    narrow_index,
    narrowed,
    read_proteins,
    read_rna,
    write_proteins,
)
from totalanvi.serving.wire.present import decode_present, encode_present
from totalanvi.serving.wire.protocol import PROTOCOL, difference

__all__ = [
    "MEDIA_TYPE",
    "PROTOCOL",
    "ChunkRequest",
    "ChunkResponse",
    "ReferenceStamp",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "requested_reference",
]

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

_REQUEST_COLUMNS = ("gene_indices", "gene_counts", "library", "protein_counts")
_N_COORDINATES = 2

_MAY_BE_NAN = ("protein_low", "protein_high")


@dataclass(frozen=True, eq=False)
class ChunkRequest:
    """A chunk of cells to map.

    Parameters
    ----------
    features
        Digest of the genes and proteins that the cells are aligned to.
    options
        How to map them.
    cells
        The cells.
    reference
        Which of the endpoint's references is meant; None for its default one.
    """

    features: str
    options: MapOptions
    cells: AlignedCells
    reference: str | None = None


@dataclass(frozen=True)
class ReferenceStamp:
    """Which reference mapped a chunk: its name, its version, and the digest of its manifest."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, eq=False)
class ChunkResponse:
    """A mapped chunk, and which reference mapped it."""

    reference: ReferenceStamp
    mapped: MappedCells


def encode_request(request: ChunkRequest) -> bytes:
    """Return a request's body.

    Examples
    --------
    >>> body = encode_request(ChunkRequest(features=digest, options=MapOptions(), cells=cells))  # doctest: +SKIP
    """
    cells = request.cells
    rna = cells.rna if cells.rna.has_sorted_indices else cells.rna.sorted_indices()
    pointers = pa.array(rna.indptr.astype(np.int32, copy=False))
    batch = pa.RecordBatch.from_arrays(
        [
            pa.ListArray.from_arrays(pointers, pa.array(rna.indices.astype(narrow_index(cells.n_genes), copy=False))),
            pa.ListArray.from_arrays(pointers, pa.array(narrowed(rna.data))),
            pa.array(cells.library),
            write_proteins(cells),
        ],
        names=_REQUEST_COLUMNS,
    )
    return write_stream(
        batch,
        {
            "protocol": PROTOCOL,
            "reference": request.reference,
            "features": request.features,
            "options": request.options.as_dict(),
            "present": encode_present(cells.present),
        },
    )


def requested_reference(body: bytes) -> str | None:
    """Return which of the endpoint's references a request is for, None for the default one.

    Raises
    ------
    QueryError
        When the body is no request of this protocol.
    """
    name = _request_metadata(body)["reference"]
    if name is not None and not isinstance(name, str):
        raise QueryError(f"reference: expected the name of a reference or null, found {type(name).__name__}.")
    return name


def decode_request(body: bytes, *, features: str, n_genes: int, n_proteins: int, max_cells: int) -> ChunkRequest:
    """Read a request's body; the counterpart of `encode_request`.

    Parameters
    ----------
    body
        The body, decompressed.
    features
        Digest of the reference's genes and proteins.
    n_genes, n_proteins
        How many of them there are.
    max_cells
        More than this are refused.

    Raises
    ------
    StaleFeaturesError
        When the request was aligned to other features.
    TooLargeError
        When it has more cells than `max_cells`.
    QueryError
        When anything else in it is not as the format says.
    """
    metadata = _request_metadata(body)
    if metadata["features"] != features:
        raise StaleFeaturesError(
            "request: expected cells aligned to this endpoint's reference, found the digest of other features; "
            "the reference has been replaced: fetch /v1/features again and align anew (a new Client does both)."
        )
    options = MapOptions.from_dict(metadata["options"])
    batch = read_stream(body, _request_schemas(n_proteins), max_cells)
    if not batch.num_rows:
        raise QueryError("request: expected at least one cell, found none.")
    rna = read_rna(batch, n_genes)
    protein, measured = read_proteins(batch.column("protein_counts"))
    library = plain_array(batch.column("library"), "library")
    present = decode_present(metadata["present"], n_genes)
    cells = AlignedCells(rna, library, protein, measured, present)
    return ChunkRequest(features, options, cells, metadata["reference"])


def encode_response(response: ChunkResponse) -> bytes:
    """Return a response's body."""
    arrays = response.mapped.arrays() | {"label_set": response.mapped.label_set.astype(np.uint8)}
    columns = {name: pa.array(a) if a.ndim == 1 else row_lists(a) for name, a in arrays.items()}
    batch = pa.RecordBatch.from_pydict(columns)
    return write_stream(batch, {"protocol": PROTOCOL, "reference": asdict(response.reference)})


def decode_response(
    body: bytes, *, n_cells: int, n_labels: int, n_names: int, n_latent: int, n_proteins: int | None
) -> ChunkResponse:
    """Read a response's body; the counterpart of `encode_response`.

    Parameters
    ----------
    body
        The body.
    n_cells
        How many cells were asked for.
    n_labels, n_names, n_latent, n_proteins
        Of the reference, `n_names` with the ancestors of its labels; `n_proteins` None when no protein was asked for.

    Raises
    ------
    EndpointError
        When it is not a whole answer to that request.
    """
    try:
        metadata = read_metadata(body)
        _require_protocol(metadata, "this client", "the endpoint")
        _known_keys(metadata, {"protocol", "reference"})
        stamp = ReferenceStamp(**_known_keys(metadata["reference"], {"name", "version", "digest"}))
        batch = read_stream(body, [_response_schema(n_labels, n_latent, n_proteins)], max_rows=n_cells)
        arrays = {name: row_array(batch.column(name), name, name in _MAY_BE_NAN) for name in batch.schema.names}
    except QueryError as error:
        raise EndpointError(f"The endpoint's answer cannot be read: {error}") from error
    mapped = MappedCells(**arrays | {"label_set": arrays["label_set"].astype(bool)})
    if len(mapped) != n_cells:
        raise EndpointError(f"The endpoint answered for {len(mapped)} of {n_cells} cells; nothing of it is kept.")
    # One more than there are: cells may be unknown.
    for codes, n_known in ((mapped.label, n_labels + 1), (mapped.guess, n_labels), (mapped.certain, n_names + 1)):
        if codes.min() < 0 or codes.max() >= n_known:
            raise EndpointError(f"The endpoint answered with a label that is none of the reference's {n_labels}.")
    return ChunkResponse(stamp, mapped)


def _request_metadata(body: bytes) -> dict[str, Any]:
    metadata = read_metadata(body)
    # Before the keys, which another protocol has others of.
    _require_protocol(metadata, "the endpoint", "the client")
    return _known_keys(metadata, {"protocol", "reference", "features", "options", "present"})


def _request_schemas(n_proteins: int) -> list[pa.Schema]:
    """Return all schemas that a request may have."""
    return [
        pa.schema(
            zip(
                _REQUEST_COLUMNS,
                (pa.list_(index), pa.list_(count), pa.float32(), pa.list_(protein, n_proteins)),
                strict=True,
            )
        )
        for index, count, protein in product((pa.int32(), pa.uint16()), COUNT_TYPES, COUNT_TYPES)
    ]


def _response_schema(n_labels: int, n_latent: int, n_proteins: int | None) -> pa.Schema:
    columns: list[tuple[str, pa.DataType]] = [
        ("label", pa.int32()),
        ("guess", pa.int32()),
        ("certain", pa.int32()),
        ("confidence", pa.float32()),
        ("novelty", pa.float32()),
        ("probabilities", pa.list_(pa.float32(), n_labels)),
        ("label_set", pa.list_(pa.uint8(), n_labels)),
        ("latent", pa.list_(pa.float32(), n_latent)),
        ("coordinates", pa.list_(pa.float32(), _N_COORDINATES)),
    ]
    if n_proteins is not None:
        columns += [(name, pa.list_(pa.float32(), n_proteins)) for name in PROTEIN_ARRAYS]
    return pa.schema(columns)


def _known_keys(values: Any, keys: set[str]) -> dict[str, Any]:
    if not isinstance(values, dict) or values.keys() != keys:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise QueryError(f"metadata: expected an object with {sorted(keys)}, found {found}.")
    return values


def _require_protocol(metadata: dict[str, Any], here: str, there: str) -> None:
    if (wrong := difference(metadata.get("protocol"), here, there)) is not None:
        raise QueryError(f"metadata: {wrong}.")
