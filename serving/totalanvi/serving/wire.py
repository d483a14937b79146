"""The binary chunk format of ``POST /v1/map``: aligned cells one way, mapped cells the other, as Arrow IPC streams.

A request has one row per cell::

    gene_indices    list<int32>                       the model genes with a count, ascending, none twice
    gene_counts     list<float32>                     their counts
    library         float32                           total count over the model's genes / gene coverage of the query
    protein_counts  fixed_size_list<float32>[proteins]  null: no protein measured; NaN: that protein not measured

and the schema metadata ``totalanvi``: ``{"protocol": 2, "features": DIGEST, "options": {…}}``, where DIGEST names the
genes and proteins that the indices refer to, and the options are `MapOptions`. A response has one row per cell in the
same order, the columns of `MappedCells`, and the metadata ``{"protocol": 2, "reference": {name, version, digest}}``.

Nothing in a request is believed: `decode_request` raises `QueryError`, or returns cells that the engine can run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from totalanvi.serving.arrow_columns import list_arrays, plain_array, row_array, row_lists
from totalanvi.serving.arrow_stream import read_metadata, read_stream, write_stream
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import CountsError, EndpointError, QueryError, StaleFeaturesError
from totalanvi.serving.mapped import MapOptions, MappedCells

__all__ = [
    "MAX_COUNT",
    "MEDIA_TYPE",
    "PROTOCOL",
    "ChunkRequest",
    "ChunkResponse",
    "ReferenceStamp",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
]

PROTOCOL = 2
"""Version of this format and of the endpoint's routes; a client and a server with different ones refuse each other."""

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

MAX_COUNT = 2**31
"""Counts from here on are refused: no cell has them, and float32 could not tell them from fractions."""

_N_COORDINATES = 2


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
    """

    features: str
    options: MapOptions
    cells: AlignedCells


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
    protein = np.where(cells.measured, cells.protein, np.float32(np.nan))
    batch = pa.RecordBatch.from_arrays(
        [
            pa.ListArray.from_arrays(pointers, pa.array(rna.indices.astype(np.int32, copy=False))),
            pa.ListArray.from_arrays(pointers, pa.array(rna.data)),
            pa.array(cells.library),
            row_lists(protein, absent=~cells.has_protein),
        ],
        schema=_request_schema(cells.n_proteins),
    )
    return write_stream(
        batch, {"protocol": PROTOCOL, "features": request.features, "options": request.options.as_dict()}
    )


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
    metadata = _known_keys(read_metadata(body), {"protocol", "features", "options"})
    _require_protocol(metadata)
    if metadata["features"] != features:
        raise StaleFeaturesError(
            "request: expected cells aligned to this endpoint's reference, found the digest of other features; "
            "the reference has been replaced: fetch /v1/features again and align anew (a new Client does both)."
        )
    options = MapOptions.from_dict(metadata["options"])
    batch = read_stream(body, _request_schema(n_proteins), max_cells)
    if not batch.num_rows:
        raise QueryError("request: expected at least one cell, found none.")
    rna = _read_rna(batch, n_genes)
    protein, measured = _read_proteins(batch.column("protein_counts"))
    library = plain_array(batch.column("library"), "library")
    return ChunkRequest(features, options, AlignedCells(rna, library, protein, measured))


def encode_response(response: ChunkResponse) -> bytes:
    """Return a response's body."""
    arrays = response.mapped.arrays()
    columns = {name: pa.array(a) if a.ndim == 1 else row_lists(a) for name, a in arrays.items()}
    batch = pa.RecordBatch.from_pydict(columns)
    return write_stream(batch, {"protocol": PROTOCOL, "reference": asdict(response.reference)})


def decode_response(
    body: bytes, *, n_cells: int, n_labels: int, n_latent: int, n_proteins: int | None
) -> ChunkResponse:
    """Read a response's body; the counterpart of `encode_response`.

    Parameters
    ----------
    body
        The body.
    n_cells
        How many cells were asked for.
    n_labels, n_latent, n_proteins
        Of the reference; `n_proteins` None when no protein was asked for.

    Raises
    ------
    EndpointError
        When it is not a whole answer to that request.
    """
    try:
        metadata = _known_keys(read_metadata(body), {"protocol", "reference"})
        _require_protocol(metadata)
        stamp = ReferenceStamp(**_known_keys(metadata["reference"], {"name", "version", "digest"}))
        batch = read_stream(body, _response_schema(n_labels, n_latent, n_proteins), max_rows=n_cells)
        arrays = {name: row_array(batch.column(name), name) for name in batch.schema.names}
    except QueryError as error:
        raise EndpointError(f"The endpoint's answer cannot be read: {error}") from error
    mapped = MappedCells(
        label=arrays["label"],
        confidence=arrays["confidence"],
        novelty=arrays["novelty"],
        probabilities=arrays["probabilities"],
        latent=arrays["latent"],
        coordinates=arrays["coordinates"],
        protein=arrays.get("protein"),
    )
    if len(mapped) != n_cells:
        raise EndpointError(f"The endpoint answered for {len(mapped)} of {n_cells} cells; nothing of it is kept.")
    if mapped.label.min() < 0 or mapped.label.max() >= n_labels:
        raise EndpointError(f"The endpoint answered with a label that is none of the reference's {n_labels}.")
    return ChunkResponse(stamp, mapped)


def _request_schema(n_proteins: int) -> pa.Schema:
    return pa.schema(
        [
            ("gene_indices", pa.list_(pa.int32())),
            ("gene_counts", pa.list_(pa.float32())),
            ("library", pa.float32()),
            ("protein_counts", pa.list_(pa.float32(), n_proteins)),
        ]
    )


def _response_schema(n_labels: int, n_latent: int, n_proteins: int | None) -> pa.Schema:
    widths = {"probabilities": n_labels, "latent": n_latent, "coordinates": _N_COORDINATES}
    columns: list[tuple[str, pa.DataType]] = [
        ("label", pa.int32()),
        ("confidence", pa.float32()),
        ("novelty", pa.float32()),
        *((name, pa.list_(pa.float32(), width)) for name, width in widths.items()),
    ]
    if n_proteins is not None:
        columns.append(("protein", pa.list_(pa.float32(), n_proteins)))
    return pa.schema(columns)


def _known_keys(values: Any, keys: set[str]) -> dict[str, Any]:
    if not isinstance(values, dict) or values.keys() != keys:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise QueryError(f"metadata: expected an object with {sorted(keys)}, found {found}.")
    return values


def _require_protocol(metadata: dict[str, Any]) -> None:
    if metadata["protocol"] != PROTOCOL:
        raise QueryError(
            f"metadata: expected protocol {PROTOCOL}, found {metadata['protocol']!r}; upgrade the older of client and "
            "server."
        )


def _read_rna(batch: pa.RecordBatch, n_genes: int) -> sparse.csr_matrix:
    pointers, indices = list_arrays(batch.column("gene_indices"), "gene_indices")
    count_pointers, counts = list_arrays(batch.column("gene_counts"), "gene_counts")
    if not np.array_equal(pointers, count_pointers):
        raise QueryError("gene_counts: expected as many counts as gene_indices in every cell, found others.")
    if indices.size and (indices.min() < 0 or indices.max() >= n_genes):
        raise QueryError(
            f"gene_indices: expected 0 to {n_genes - 1}, found {indices.min()} to {indices.max()}; "
            "indices refer to /v1/features."
        )
    ascends = np.diff(indices) > 0
    # Where a new cell starts, its first index may be anything.
    starts = pointers[1:-1]
    ascends[starts[(starts > 0) & (starts < indices.size)] - 1] = True
    if not ascends.all():
        raise QueryError("gene_indices: expected ascending indices in every cell, none twice, found others.")
    _require_counts("gene_counts", counts)
    matrix = sparse.csr_matrix((counts, indices, pointers), shape=(batch.num_rows, n_genes))
    matrix.has_sorted_indices = True
    return matrix


def _read_proteins(column: pa.FixedSizeListArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    width = column.type.list_size
    # An Arrow null inside a row reads as NaN, which has the same meaning.
    flat = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
    counts = flat.reshape(len(column), width)
    measured = ~np.isnan(counts)
    measured[column.is_null().to_numpy(zero_copy_only=False)] = False
    counts = np.where(measured, counts, np.float32(0))
    _require_counts("protein_counts", counts)
    return counts, measured


def _require_counts(name: str, counts: npt.NDArray[np.float32]) -> None:
    good = (counts >= 0) & (counts < MAX_COUNT) & (counts == np.rint(counts))
    if not good.all():
        raise CountsError(
            f"{name}: expected raw counts (whole numbers from 0 to below 2³¹), found others; send counts as they were "
            "measured, neither normalised nor logarithms."
        )
