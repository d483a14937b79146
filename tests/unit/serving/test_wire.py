"""The binary chunk format: what goes in comes out, and every way to get it wrong is named."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from scipy import sparse
from tests.support.toy_bundle import TOY, toy_cells

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import (
    CountsError,
    EndpointError,
    QueryError,
    StaleFeaturesError,
    TooLargeError,
)
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells
from totalanvi.serving.wire.arrow_stream import compress, decompress, write_stream
from totalanvi.serving.wire.chunks import (
    PROTOCOL,
    ChunkRequest,
    ChunkResponse,
    ReferenceStamp,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

DIGEST = "d" * 64
OPTIONS = MapOptions(impute=False, samples=3, background="include")
N_CELLS = 12
N_GENES, N_PROTEINS = len(TOY.genes), len(TOY.proteins)


def decode(body: bytes, max_cells: int = N_CELLS, features: str = DIGEST) -> ChunkRequest:
    return decode_request(body, features=features, n_genes=N_GENES, n_proteins=N_PROTEINS, max_cells=max_cells)


def columns(n_rows: int = 2) -> dict[str, pa.Array]:
    """A request's columns, made by hand."""
    return {
        "gene_indices": pa.array([[0, 3], [1]][:n_rows], type=pa.list_(pa.int32())),
        "gene_counts": pa.array([[1, 2], [5]][:n_rows], type=pa.list_(pa.float32())),
        "library": pa.array([3, 5][:n_rows], type=pa.float32()),
        "protein_counts": pa.array([None, [1, 2, 3, 4, np.nan, 6]][:n_rows], type=pa.list_(pa.float32(), N_PROTEINS)),
    }


def body(metadata: dict[str, Any] | None = None, **changed: pa.Array) -> bytes:
    header = {"protocol": PROTOCOL, "reference": None, "features": DIGEST, "options": {}, "present": None} | (
        metadata or {}
    )
    return write_stream(pa.RecordBatch.from_pydict(columns() | changed), header)


def lists(*rows: list[float] | None, of: pa.DataType) -> pa.Array:
    return pa.array(list(rows), type=pa.list_(of))


def mapped(n_cells: int, impute: bool) -> MappedCells:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray[Any, Any]:
        return rng.random((n_cells, *shape), dtype=np.float32)

    return MappedCells(
        label=rng.integers(5, size=n_cells).astype(np.int32),
        guess=rng.integers(4, size=n_cells).astype(np.int32),
        certain=rng.integers(7, size=n_cells).astype(np.int32),
        confidence=draw(),
        novelty=draw(),
        probabilities=draw(4),
        label_set=draw(4) > 0.5,
        latent=draw(5),
        coordinates=draw(2),
        **{name: draw(N_PROTEINS) for name in PROTEIN_ARRAYS if impute},
    )


def test_a_request_comes_back_as_it_was() -> None:
    cells, _ = toy_cells(N_CELLS)

    request = decode(encode_request(ChunkRequest(DIGEST, OPTIONS, cells)))

    assert request.features == DIGEST
    assert request.options == OPTIONS
    assert (request.cells.rna != cells.rna).nnz == 0
    np.testing.assert_array_equal(request.cells.library, cells.library)
    np.testing.assert_array_equal(request.cells.protein, cells.protein)
    np.testing.assert_array_equal(request.cells.measured, cells.measured)


@pytest.mark.parametrize(
    ("most", "of_rna", "of_proteins"),
    [(255, "uint8", "uint8"), (256, "uint16", "uint8"), (65_535, "uint16", "uint8"), (65_536, "float", "uint8")],
)
@pytest.mark.parametrize("swapped", [False, True], ids=["rna", "proteins"])
def test_counts_travel_in_as_few_bits_as_hold_them(most: int, of_rna: str, of_proteins: str, swapped: bool) -> None:
    cells, _ = toy_cells(N_CELLS)
    rna, protein, measured = cells.rna.copy(), np.minimum(cells.protein, 200), cells.measured.copy()
    rna.data[:] = np.minimum(rna.data, 200)
    measured[1], measured[2, :3], measured[3] = False, False, True
    protein[~measured] = 0
    protein[3, 0] = 1
    (protein if swapped else rna.data)[(3, 0) if swapped else 0] = most
    sent = replace(cells, rna=rna, protein=protein, measured=measured)

    content = encode_request(ChunkRequest(DIGEST, OPTIONS, sent))

    batch = pa.ipc.open_stream(content).read_next_batch()
    types = [str(batch.schema.field(name).type.value_type) for name in ("gene_counts", "protein_counts")]
    assert types == ([of_proteins, of_rna] if swapped else [of_rna, of_proteins])
    assert batch.schema.field("gene_indices").type.value_type == pa.uint16()
    found = decode(content).cells
    assert (found.rna != rna).nnz == 0
    assert found.rna.dtype == found.protein.dtype == np.float32
    np.testing.assert_array_equal(found.protein, protein)
    np.testing.assert_array_equal(found.measured, measured)


def test_what_is_no_whole_number_is_not_cut_down_to_one() -> None:
    cells, _ = toy_cells(N_CELLS)
    rna = cells.rna.copy()
    rna.data[5] = 1.5
    with pytest.raises(CountsError, match="whole numbers"):
        decode(encode_request(ChunkRequest(DIGEST, OPTIONS, replace(cells, rna=rna))))


def test_many_genes_have_wider_indices() -> None:
    n_genes = 2**16 + 1
    rna = sparse.csr_matrix((np.ones(2, np.float32), [0, n_genes - 1], [0, 2]), shape=(1, n_genes))
    bare = np.zeros((1, 0), dtype=np.float32)
    content = encode_request(ChunkRequest(DIGEST, OPTIONS, AlignedCells(rna, np.ones(1, "f4"), bare, bare > 0)))
    found = decode_request(content, features=DIGEST, n_genes=n_genes, n_proteins=0, max_cells=1)
    assert found.cells.rna.indices.tolist() == [0, n_genes - 1]


def test_a_slice_of_cells_and_unsorted_indices_travel_too() -> None:
    cells, _ = toy_cells(N_CELLS)
    part = cells.rows(slice(3, 9))
    indices, data = part.rna.indices.copy(), part.rna.data.copy()
    for start, stop in zip(part.rna.indptr[:-1], part.rna.indptr[1:], strict=True):
        indices[start:stop], data[start:stop] = indices[start:stop][::-1], data[start:stop][::-1]
    unsorted = type(part.rna)((data, indices, part.rna.indptr), shape=part.rna.shape)
    shuffled = AlignedCells(unsorted, part.library, part.protein, part.measured)

    request = decode(encode_request(ChunkRequest(DIGEST, OPTIONS, shuffled)))

    np.testing.assert_array_equal(request.cells.rna.toarray(), part.rna.toarray())


def test_a_reference_without_proteins_has_an_empty_protein_column() -> None:
    cells, _ = toy_cells(3)
    bare = AlignedCells(cells.rna, cells.library, cells.protein[:, :0], cells.measured[:, :0])

    request = decode_request(
        encode_request(ChunkRequest(DIGEST, OPTIONS, bare)),
        features=DIGEST,
        n_genes=N_GENES,
        n_proteins=0,
        max_cells=3,
    )

    assert request.cells.protein.shape == (3, 0)


def test_null_rows_and_nan_places_are_proteins_that_were_not_measured() -> None:
    cells = decode(body()).cells

    np.testing.assert_array_equal(cells.measured, [[False] * 6, [True, True, True, True, False, True]])
    np.testing.assert_array_equal(cells.protein, [[0] * 6, [1, 2, 3, 4, 0, 6]])


@pytest.mark.parametrize("impute", [True, False])
def test_a_response_comes_back_as_it_was(impute: bool) -> None:
    sent = ChunkResponse(ReferenceStamp("toy", "1", "e" * 64), mapped(N_CELLS, impute))

    received = decode_response(
        encode_response(sent),
        n_cells=N_CELLS,
        n_labels=4,
        n_names=6,
        n_latent=5,
        n_proteins=N_PROTEINS if impute else None,
    )

    assert received.reference == sent.reference
    assert received.mapped.arrays().keys() == sent.mapped.arrays().keys()
    for name, array in sent.mapped.arrays().items():
        np.testing.assert_array_equal(received.mapped.arrays()[name], array)


INT, FLOAT = pa.int32(), pa.float32()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gene_indices": lists([0, N_GENES], [1], of=INT)}, "0 to 59"),
        ({"gene_indices": lists([-1, 3], [1], of=INT)}, "0 to 59"),
        ({"gene_indices": lists([3, 0], [1], of=INT)}, "ascending"),
        ({"gene_indices": lists([3, 3], [1], of=INT)}, "ascending"),
        ({"gene_indices": lists([0], [1, 2], of=INT)}, "as many counts"),
        ({"gene_indices": lists([0, 3], None, of=INT)}, "null"),
        ({"gene_indices": lists([0, None], [1], of=INT)}, "null"),  # type: ignore[list-item]
        ({"gene_indices": lists([0, N_GENES], [1], of=pa.uint16())}, "0 to 59"),
        ({"gene_indices": lists([3, 0], [1], of=pa.uint16())}, "ascending"),
        ({"gene_counts": lists([1, None], [5], of=pa.uint8())}, "null"),  # type: ignore[list-item]
        ({"gene_counts": lists([1, 2], [5], of=pa.int8())}, "expected the columns"),
        ({"gene_counts": lists([1, 0.5], [5], of=FLOAT)}, "whole numbers"),
        ({"gene_counts": lists([1, -2], [5], of=FLOAT)}, "whole numbers"),
        ({"gene_counts": lists([1, 2.0**31], [5], of=FLOAT)}, "below 2³¹"),
        ({"gene_counts": lists([1, np.nan], [5], of=FLOAT)}, "NaN"),
        ({"gene_counts": lists([1, np.inf], [5], of=FLOAT)}, "infinity"),
        ({"library": pa.array([3, None], type=FLOAT)}, "null"),
        ({"library": pa.array([3, np.nan], type=FLOAT)}, "NaN"),
        ({"library": pa.array([3, -1], type=FLOAT)}, "at least 0"),
        ({"library": pa.array([3.0, 5.0], type=pa.float64())}, "library: float"),
        ({"protein_counts": pa.array([None, [0.5] * 6], type=pa.list_(FLOAT, 6))}, "whole numbers"),
        ({"protein_counts": pa.array([None, [np.inf] * 6], type=pa.list_(FLOAT, 6))}, "whole numbers"),
        ({"protein_counts": pa.array([None, [1] * 5], type=pa.list_(FLOAT, 5))}, "expected the columns"),
        ({"extra": pa.array([1, 2])}, "expected the columns"),
    ],
)
def test_wrong_columns_are_refused(changed: dict[str, pa.Array], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        decode(body(**changed))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"protocol": PROTOCOL + 1}, f"protocol {PROTOCOL}, found {PROTOCOL + 1}"),
        ({"more": 1}, "expected an object with"),
        ({"options": []}, "options: expected an object"),
        ({"options": {"samples": 0}}, "samples"),
        ({"options": {"sample": 3}}, "leave these out"),
    ],
)
def test_wrong_metadata_is_refused(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        decode(body(metadata))


def test_another_features_digest_tells_the_client_to_refresh() -> None:
    with pytest.raises(StaleFeaturesError, match="fetch /v1/features again") as caught:
        decode(body({"features": "another"}))

    assert caught.value.http_status == 409


def test_fractions_are_a_counts_error() -> None:
    with pytest.raises(CountsError):
        decode(body(gene_counts=lists([1, 0.5], [5], of=FLOAT)))


def test_no_cell_is_refused() -> None:
    empty = {name: column.slice(0, 0) for name, column in columns().items()}

    with pytest.raises(QueryError, match="at least one cell"):
        decode(body(**empty))


def test_too_many_cells_are_refused() -> None:
    with pytest.raises(TooLargeError, match="at most 1 cells, found 2"):
        decode(body(), max_cells=1)


def test_whatever_is_no_single_batch_is_refused() -> None:
    whole = body()
    batch = pa.RecordBatch.from_pydict(columns())
    schema = pa.ipc.open_stream(whole).schema
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))

    for broken, message in [
        (b"", "a schema"),
        (b"\x89HDF\r\n\x1a\n" * 10, "a schema"),
        (whole[: len(whole) // 2], "Arrow"),
        (whole + b"\x00" * 8, "more bytes"),
        (bytes(sink.getvalue()), "send one chunk a request"),
        (bytes(schema.serialize()), "a record batch"),
        (write_stream(batch, {})[: -len(whole)], "Arrow"),
    ]:
        with pytest.raises(QueryError, match=message):
            decode(broken)


def test_a_schema_without_our_metadata_is_refused() -> None:
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_pydict(columns())
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)

    with pytest.raises(QueryError, match="metadata key 'totalanvi', found none"):
        decode(bytes(sink.getvalue()))


@pytest.mark.parametrize(
    ("text", "message"), [(b"{", "expected JSON"), (b"[" * 100_000, "JSON"), (b"3", "JSON object")]
)
def test_metadata_that_is_no_json_object_is_refused(text: bytes, message: str) -> None:
    batch = pa.RecordBatch.from_pydict(columns()).replace_schema_metadata({b"totalanvi": text})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)

    with pytest.raises(QueryError, match=message):
        decode(bytes(sink.getvalue()))


def test_compressed_buffers_are_refused_before_they_are_inflated() -> None:
    batch = pa.RecordBatch.from_pydict(columns())
    schema = pa.ipc.open_stream(body()).schema
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))

    with pytest.raises(QueryError, match="Content-Encoding: zstd"):
        decode(bytes(sink.getvalue()))


def test_zstd_bodies_are_read_up_to_their_limit() -> None:
    content = b"count" * 1000

    assert decompress(compress(content), max_bytes=5000) == content
    with pytest.raises(TooLargeError, match="at most 4999 bytes"):
        decompress(compress(content), max_bytes=4999)


@pytest.mark.skipif(sys.platform != "linux", reason="address space is told by the system")
def test_bodies_that_cannot_be_decompressed_leave_no_memory_behind() -> None:
    before = psutil.Process().memory_info().vms
    for _ in range(300):
        with pytest.raises(QueryError):
            decompress(b"plain text, not zstd", max_bytes=1000)

    # A megabyte of each is what pyarrow lost.
    assert psutil.Process().memory_info().vms - before < 100 * 2**20


def test_a_decompression_bomb_stops_at_the_limit() -> None:
    bomb = compress(bytes(200_000_000))
    before = pa.total_allocated_bytes()

    with pytest.raises(TooLargeError):
        decompress(bomb, max_bytes=1_000_000)

    assert len(bomb) < 100_000
    assert pa.total_allocated_bytes() - before < 10_000_000


def test_what_is_not_zstd_is_refused() -> None:
    with pytest.raises(QueryError, match="expected zstd"):
        decompress(b"plain text, not zstd", max_bytes=1000)


def test_a_zstd_body_that_is_cut_short_is_refused() -> None:
    with pytest.raises(QueryError, match="expected zstd"):
        decompress(compress(bytes(np.random.default_rng(0).bytes(10_000)))[:5000], max_bytes=100_000)


def test_intervals_that_are_not_known_travel_and_infinite_ones_do_not() -> None:
    def journey(value: float) -> MappedCells:
        cells = mapped(2, impute=True)
        cells.protein_high[1, 3] = value
        sent = encode_response(ChunkResponse(ReferenceStamp("toy", "1", "e" * 64), cells))
        return decode_response(sent, n_cells=2, n_labels=4, n_names=6, n_latent=5, n_proteins=N_PROTEINS).mapped

    assert np.argwhere(np.isnan(journey(np.nan).protein_high)).tolist() == [[1, 3]]
    with pytest.raises(EndpointError, match="protein_high: expected finite"):
        journey(np.inf)


def response(**changed: Any) -> bytes:
    cells = mapped(3, impute=False)
    arrays = cells.arrays() | changed
    return encode_response(ChunkResponse(ReferenceStamp("toy", "1", "e" * 64), MappedCells(**arrays)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>a proxy's page</html>", "cannot be read"),
        (response()[:-200], "cannot be read"),
        (response(confidence=np.array([1, np.nan, 1], dtype=np.float32)), "NaN"),
        (response(label=np.array([0, 1, 5], dtype=np.int32)), "none of the reference's 4"),
        (response(guess=np.array([0, 1, 4], dtype=np.int32)), "none of the reference's 4"),
        (response(certain=np.array([0, 1, 7], dtype=np.int32)), "none of the reference's 4"),
        (response(latent=np.zeros((3, 2), dtype=np.float32)), "expected the columns"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_an_endpoint_error(answer: bytes, message: str) -> None:
    with pytest.raises(EndpointError, match=message):
        decode_response(answer, n_cells=3, n_labels=4, n_names=6, n_latent=5, n_proteins=None)


@pytest.mark.parametrize("asked", [2, 4])
def test_an_answer_for_more_or_fewer_cells_is_an_endpoint_error(asked: int) -> None:
    with pytest.raises(EndpointError):
        decode_response(response(), n_cells=asked, n_labels=4, n_names=6, n_latent=5, n_proteins=None)
