"""One record batch as an Arrow IPC stream, read as if a stranger had written it.

A stream is accepted only when it is exactly one schema, the expected one, and one record batch, uncompressed, with
nothing after it, and when every offset and length in it holds. Whole bodies may be compressed with zstd; single buffers
may not, since Arrow would inflate those to whatever size they claim.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from totalanvi.serving.errors import QueryError, TooLargeError

__all__ = ["METADATA_KEY", "compress", "decompress", "read_metadata", "read_stream", "write_stream"]

METADATA_KEY = b"totalanvi"
"""Of the schema metadata: a JSON object that says what the batch is."""

# Places of fields in the flatbuffer tables of Arrow's format: of a Message, and of a RecordBatch.
_HEADER = 2
_COMPRESSION = 3

_BLOCK_BYTES = 1 << 20

# pyarrow's own exceptions derive from several built-in ones; MemoryError stands for lengths that lie.
_UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, MemoryError)


def write_stream(batch: pa.RecordBatch, metadata: Mapping[str, Any]) -> bytes:
    """Return a record batch as an Arrow IPC stream whose schema carries `metadata` as JSON."""
    schema = batch.schema.with_metadata({METADATA_KEY: json.dumps(metadata, allow_nan=False).encode()})
    batch = batch.replace_schema_metadata(schema.metadata)
    # Into a place of the right size: one that grows copies what it holds again and again.
    sized = pa.MockOutputStream()
    _write(sized, batch)
    content = pa.allocate_buffer(sized.size())
    _write(pa.FixedSizeBufferWriter(content), batch)
    return bytes(content.to_pybytes())


def _write(sink: pa.NativeFile, batch: pa.RecordBatch) -> None:
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_metadata(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a stream's schema carries, without reading any cell.

    Raises
    ------
    QueryError
        When the body is not an Arrow IPC stream, or its schema carries no such object.
    """
    _require_one_plain_batch(body)
    with _refusing("a schema"):
        text = (pa.ipc.open_stream(pa.py_buffer(body)).schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise QueryError(f"Arrow stream: expected the schema metadata key {METADATA_KEY.decode()!r}, found none.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QueryError(
            f"Arrow stream: expected JSON in the schema metadata, found {type(error).__name__}."
        ) from error
    if not isinstance(values, dict):
        raise QueryError(f"Arrow stream: expected a JSON object in the schema metadata, found {type(values).__name__}.")
    return values


def read_stream(body: bytes, expected: Sequence[pa.Schema], max_rows: int) -> pa.RecordBatch:
    """Return the one record batch of a stream.

    Parameters
    ----------
    body
        The stream.
    expected
        Names and types of the columns, in order: any of these, the usual ones first.
    max_rows
        More than this are refused.

    Raises
    ------
    QueryError
        When the body is anything but one valid record batch of an expected schema.
    TooLargeError
        When it has more rows than `max_rows`.
    """
    _require_one_plain_batch(body)
    with _refusing("a schema"):
        reader = pa.ipc.open_stream(pa.py_buffer(body))
        found = _columns(reader.schema)
    if not any(reader.schema.equals(schema, check_metadata=False) for schema in expected):
        raise QueryError(
            f"Arrow stream: expected the columns {_columns(expected[0])}, found {found}; "
            "ask the endpoint's /v1/info how many genes, proteins and labels its reference has."
        )
    with _refusing("a record batch"):
        batch = reader.read_next_batch()
    if batch.num_rows > max_rows:
        raise TooLargeError(
            f"Arrow stream: expected at most {max_rows} cells, found {batch.num_rows}; send smaller chunks."
        )
    with _refusing("a valid record batch"):
        batch.validate(full=True)
    return batch


def compress(body: bytes) -> bytes:
    """Return a body as one zstd frame."""
    return bytes(pa.compress(body, codec="zstd", asbytes=True))


def decompress(body: bytes, max_bytes: int) -> bytes:
    """Return the content of a zstd body, which may not be larger than `max_bytes`, whatever it claims.

    Raises
    ------
    QueryError
        When the body is not zstd, or is cut short.
    TooLargeError
        When its content is larger than `max_bytes`.
    """
    parts: list[bytes] = []
    size = 0
    # Into a place of ours: of one that pyarrow makes for what it reads, nothing is given back when reading fails.
    block = memoryview(bytearray(_BLOCK_BYTES))
    with _refusing("zstd"), pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(body)), "zstd") as stream:
        while n_read := stream.readinto(block):
            size += n_read
            if size > max_bytes:
                raise TooLargeError(
                    f"body: expected at most {max_bytes} bytes once decompressed, found more; send smaller chunks."
                )
            parts.append(bytes(block[:n_read]))
    return b"".join(parts)


@contextmanager
def _refusing(wanted: str) -> Iterator[None]:
    """Turn whatever pyarrow raises at bytes that it cannot read into a `QueryError`."""
    try:
        yield
    except QueryError:
        raise
    except _UNREADABLE as error:
        brief = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise QueryError(f"Arrow stream: expected {wanted}, found {brief}.") from error


def _require_one_plain_batch(body: bytes) -> None:
    """Walk over the messages without reading what is in them: pyarrow's readers inflate what they are given."""
    stream = pa.BufferReader(pa.py_buffer(body))
    for wanted in ("schema", "record batch"):
        with _refusing(f"a {wanted}"):
            message = pa.ipc.read_message(stream)
            kind = message.type
        if kind != wanted:
            raise QueryError(f"Arrow stream: expected one schema and one record batch, found a {kind} message.")
    if _is_compressed(message.metadata):
        raise QueryError(
            "Arrow stream: expected uncompressed buffers, found compressed ones; "
            "compress the whole body instead, and say so with `Content-Encoding: zstd`."
        )
    with _refusing("nothing after the record batch"):
        try:
            pa.ipc.read_message(stream)
        except EOFError:
            pass
        else:
            raise QueryError("Arrow stream: expected one record batch, found more after it; send one chunk a request.")
        if stream.tell() != stream.size():
            raise QueryError("Arrow stream: expected nothing after its end, found more bytes.")


def _is_compressed(message: pa.Buffer) -> bool:
    """Tell from a message's flatbuffer whether its record batch has compressed buffers, which pyarrow does not say.

    A table starts with the distance back to its vtable; the vtable holds its own size, the table's size, and one
    16-bit offset a field, 0 for a field that is absent.
    """
    view = memoryview(message)
    try:
        table = struct.unpack_from("<I", view, 0)[0]
        header = _field(view, table, _HEADER)
        return _field(view, header + struct.unpack_from("<I", view, header)[0], _COMPRESSION) != 0
    except struct.error as error:
        raise QueryError("Arrow stream: expected a valid Arrow message, found one that is cut short.") from error


def _field(view: memoryview, table: int, slot: int) -> int:
    """Return where a table's field stands, 0 when it is absent."""
    vtable = table - struct.unpack_from("<i", view, table)[0]
    if vtable < 0:
        raise struct.error
    size = struct.unpack_from("<H", view, vtable)[0]
    entry = 4 + 2 * slot
    offset = struct.unpack_from("<H", view, vtable + entry)[0] if entry + 2 <= size else 0
    return table + offset if offset else 0


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)[:500] or "none"
