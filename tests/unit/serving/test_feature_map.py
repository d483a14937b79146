"""The user's table of names: how it may be written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.queries import refusal

from totalanvi.serving.alignment.feature_map import read_feature_map
from totalanvi.serving.errors import AlignmentError

MEANINGS = {"PD-1": "CD279", "HLA-A,B,C": "HLA-ABC", "junk": ""}


@pytest.mark.parametrize(
    "text",
    [
        'PD-1,CD279\n"HLA-A,B,C",HLA-ABC\njunk,\n',
        'Query,Reference\r\nPD-1, CD279\r\n\r\n"HLA-A,B,C",HLA-ABC\r\njunk,\r\n',
        "query\treference\nPD-1\tCD279\nHLA-A,B,C\tHLA-ABC\njunk\t\n",
        '\ufeffPD-1,CD279\nPD-1,CD279\n"HLA-A,B,C",HLA-ABC\njunk,',
    ],
    ids=["csv", "header", "tsv", "mark of byte order, a line twice"],
)
def test_tables_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_feature_map(path) == read_feature_map(str(path)) == MEANINGS
    assert read_feature_map(MEANINGS) == MEANINGS


def test_only_ends_of_lines_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text('"a\nb",CD3\nc\u2028d,CD4\n', encoding="utf-8")
    assert read_feature_map(path) == {"a\nb": "CD3", "c\u2028d": "CD4"}


def test_neither_names_nor_a_path_is_refused() -> None:
    refusal(AlignmentError, lambda: read_feature_map([("PD-1", "CD279")]), "found list", "dict")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"one\n", ["two columns", "'one'", "line 1"]),
        (b"a,b\na,b,c\n", ["two columns", "line 2"]),
        (b"a,b\n,c\n", ["two columns", "line 2"]),
        (b"a,b\na,c\n", ["one meaning", "'a' as 'b' and as 'c'", "line 2"]),
        (b"\xff\xfe", ["UTF-8", "cannot be read"]),
        (b"a," + b"b" * 200_000, ["cannot be read", "larger than field limit"]),
        (None, ["cannot be read", "--feature-map"]),
    ],
    ids=["one column", "three columns", "no name", "two meanings", "binary", "endless name", "missing"],
)
def test_other_tables_are_refused(tmp_path: Path, content: bytes | None, parts: list[str]) -> None:
    path = tmp_path / "map.csv"
    if content is not None:
        path.write_bytes(content)
    refusal(AlignmentError, lambda: read_feature_map(path), *parts)
