"""What strangers may send before anything of it is understood: forms in any pieces, and lines of keys."""

from __future__ import annotations

import itertools
from contextlib import suppress
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from totalanvi.serving.endpoint.access.keys import parse_keys
from totalanvi.serving.endpoint.files.receive import _Form
from totalanvi.serving.errors import QueryError, SettingsError

EDGE = b"edge"
PIECES = st.sampled_from(
    [
        b"--edge\r\n",
        b"--edge--\r\n",
        b"--edge",
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="f"; filename="a"\r\n',
        b'Content-Disposition: form-data; name="f"\r\n',
        b"Content-Disposition:",
        b"\x89HDF\r\n\x1a\n",
        b"\x00" * 100,
    ]
)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[start:stop] for start, stop in itertools.pairwise(edges)]


@given(st.lists(PIECES | st.binary(max_size=40), max_size=20), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_form_is_taken_apart_or_refused(pieces: list[bytes], places: list[int]) -> None:
    file = BytesIO()
    with suppress(QueryError):
        form = _Form(EDGE, file, max_bytes=1000)
        for block in cut(b"".join(pieces), places):
            form.write(block)
        form.finish()
    assert len(file.getvalue()) <= 1000


@given(st.binary(max_size=300).filter(lambda content: b"\r\n--edge" not in content), st.lists(st.integers(0, 500)))
def test_a_file_in_a_form_arrives_as_it_is(content: bytes, places: list[int]) -> None:
    head = b'--edge\r\nContent-Disposition: form-data; name="f"; filename="../a"\r\nContent-Type: x/y\r\n\r\n'
    file = BytesIO()
    form = _Form(EDGE, file, max_bytes=300)

    for block in cut(head + content + b"\r\n--edge--\r\n", places):
        form.write(block)
    form.finish()

    assert file.getvalue() == content


@given(
    st.text(max_size=200) | st.from_regex(r"[a-z]{1,3}:[0-9a-f]{64}( (cells_per_day|x)=[0-9]{1,3})*", fullmatch=True)
)
def test_any_line_is_a_key_or_refused(text: str) -> None:
    try:
        keys = parse_keys(text, "here")
    except SettingsError:
        return
    assert parse_keys("\n".join(key.line() for key in keys), "here") == keys
