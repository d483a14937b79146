"""The binary chunk format under every input that hypothesis can think of."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse
from tests.support.toy_bundle import TOY, toy_cells

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import QueryError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.wire.arrow_stream import compress, decompress
from totalanvi.serving.wire.chunks import ChunkRequest, decode_request, encode_request

DIGEST = "0" * 64
COUNTS = st.integers(0, 2**31 - 129).map(np.float32)
WHOLE = encode_request(ChunkRequest(DIGEST, MapOptions(), toy_cells(6)[0]))


@st.composite
def aligned_cells(draw: st.DrawFn) -> AlignedCells:
    n_cells, n_genes, n_proteins = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(0, 4))
    rna = draw(arrays.arrays(np.float32, (n_cells, n_genes), elements=COUNTS))
    protein = draw(arrays.arrays(np.float32, (n_cells, n_proteins), elements=COUNTS))
    measured = draw(arrays.arrays(np.bool_, (n_cells, n_proteins)))
    library = draw(arrays.arrays(np.float32, n_cells, elements=st.floats(0, 2.0**99, width=32)))
    return AlignedCells(sparse.csr_matrix(rna), library, np.where(measured, protein, np.float32(0)), measured)


OPTIONS = st.builds(
    MapOptions,
    samples=st.integers(1, 1000),
    background=st.sampled_from(["exclude", "include"]),
    impute_as=st.none() | st.text(),
    coverage=st.floats(0.5, 0.99),
    false_positive_rate=st.floats(0, 0.5),
    keep_unknown_labels=st.booleans(),
    certainty=st.floats(0.5, 1),
) | st.builds(MapOptions, impute=st.just(False), certainty=st.floats(0.5, 1))


@given(cells=aligned_cells(), options=OPTIONS)
@settings(max_examples=100, deadline=None)
def test_every_chunk_survives_the_journey(cells: AlignedCells, options: MapOptions) -> None:
    body = decompress(compress(encode_request(ChunkRequest(DIGEST, options, cells))), max_bytes=1_000_000)

    request = decode_request(
        body, features=DIGEST, n_genes=cells.n_genes, n_proteins=cells.n_proteins, max_cells=len(cells)
    )

    assert request.options == options
    np.testing.assert_array_equal(request.cells.rna.toarray(), cells.rna.toarray())
    for name in ("library", "protein", "measured"):
        np.testing.assert_array_equal(getattr(request.cells, name), getattr(cells, name))


def decode_or_refuse(body: bytes) -> None:
    """Decode; whatever is accepted is whole, whatever is not is a QueryError."""
    try:
        request = decode_request(
            body, features=DIGEST, n_genes=len(TOY.genes), n_proteins=len(TOY.proteins), max_cells=100
        )
    except QueryError:
        return
    assert np.isfinite(request.cells.rna.data).all()
    assert np.isfinite(request.cells.library).all()


@given(edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=500, deadline=None)
def test_changed_bytes_are_refused_or_harmless(edits: list[tuple[int, int]]) -> None:
    body = bytearray(WHOLE)
    for place, value in edits:
        body[place] = value
    decode_or_refuse(bytes(body))


@given(start=st.integers(0, len(WHOLE)), stop=st.integers(0, len(WHOLE)), inserted=st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_cut_and_padded_bodies_are_refused_or_harmless(start: int, stop: int, inserted: bytes) -> None:
    decode_or_refuse(WHOLE[:start] + inserted + WHOLE[stop:])


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused(body: bytes) -> None:
    decode_or_refuse(body)
    try:
        decompress(body, max_bytes=1000)
    except QueryError:
        return
