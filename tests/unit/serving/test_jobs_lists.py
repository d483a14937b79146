"""Which queries are meant by the words of a command, and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata
import pytest
from tests.support.queries import refusal
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import QueryError
from totalanvi.serving.jobs.listed import Listed, listed_queries
from totalanvi.serving.jobs.naming import names_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in: two folders of queries, one of which holds a Zarr folder, a 10x matrix, and other things."""
    for name in ("a/one.h5ad", "a/two.h5", "a/.hidden.txt", "a/notes.md", "b/one.h5ad", "b/deep/three.h5mu"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    anndata.AnnData(toy_query(3).X).write_zarr(tmp_path / "a" / "stored.zarr")
    (tmp_path / "a" / "matrix").mkdir()
    (tmp_path / "a" / "matrix" / "matrix.mtx.gz").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(home: Path, *words: str) -> list[str]:
    return [Path(query.address).relative_to(home).as_posix() for query in listed_queries(words)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["b/one.h5ad", "a/one.h5ad"], ["b/one.h5ad", "a/one.h5ad"]),
        (["a"], ["a/matrix", "a/one.h5ad", "a/stored.zarr", "a/two.h5"]),
        (["a/stored.zarr", "a/matrix"], ["a/stored.zarr", "a/matrix"]),
        (["*/one.h5ad"], ["a/one.h5ad", "b/one.h5ad"]),
        (["**/*.h5mu", "b/[on]ne.h5ad"], ["b/deep/three.h5mu", "b/one.h5ad"]),
        (["a/two.h5", "a/../a/two.h5", "a"], ["a/two.h5", "a/matrix", "a/one.h5ad", "a/stored.zarr"]),
        (["not/there.h5ad"], ["not/there.h5ad"]),
    ],
)
def test_words_stand_for_queries(home: Path, words: Sequence[str], expected: list[str]) -> None:
    assert found(home, *words) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(home: Path) -> None:
    (home / "run[1].h5ad").touch()
    assert found(home, "run[1].h5ad") == ["run[1].h5ad"]


def test_a_file_url_is_a_path(home: Path) -> None:
    assert found(home, f"file://{home}/a/one.h5ad", f"file://{home}/b/*.h5ad") == ["a/one.h5ad", "b/one.h5ad"]


def test_lists_name_queries_beside_themselves(home: Path) -> None:
    (home / "a" / "list.txt").write_text("\ufeff# the first run\none.h5ad\n\n../b/*.h5ad\nhttps://lab/far.h5ad\n")
    assert [query.address for query in listed_queries(["a/list.txt"])] == [
        f"{home}/a/one.h5ad",
        f"{home}/b/one.h5ad",
        "https://lab/far.h5ad",
    ]
    (home / "list.csv").write_text("batch,query,name\n1,a/one.h5ad,first\n2,b/one.h5ad,\n")
    expected = [Listed(f"{home}/a/one.h5ad", "first"), Listed(f"{home}/b/one.h5ad")]
    assert listed_queries(["list.csv"]) == expected
    (home / "list.tsv").write_text("query\tname\na/one.h5ad\tfirst\nb/one.h5ad\t\n")
    assert listed_queries(["list.tsv"]) == expected


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("absent.txt", None, ["absent.txt", "cannot be read"]),
        ("binary.txt", b"\xff\xfe\xfa", ["UTF-8"]),
        ("list.csv", b"file\na/one.h5ad\n", ["a column 'query'", "'file'"]),
        ("list.csv", b"", ["a column 'query'", "none"]),
        ("list.csv", b"query,name\na,both\n", ["'both'", "found 4"]),
        ("list.txt", b"other.txt\n", ["another list, 'other.txt'"]),
        ("list.txt", b"a/*.loom\n", ["a/*.loom", "found none"]),
    ],
)
def test_a_list_that_is_none_is_refused(home: Path, name: str, content: bytes | None, parts: list[str]) -> None:
    if content is not None:
        (home / name).write_bytes(content)
    refusal(QueryError, lambda: listed_queries([name]), *parts)


@pytest.mark.parametrize("word", ["*.h5ad", "b/deep/nothing*", "empty"])
def test_nothing_is_refused(home: Path, word: str) -> None:
    (home / "empty").mkdir()
    refusal(QueryError, lambda: listed_queries([word]), word, "found none")


def test_each_query_has_a_name_of_its_own() -> None:
    queries = [
        Listed(f"/{name}") for name in ("a/x.h5ad", "b/X.h5mu", "c/y.zarr", "d/.z.h5", "e/matrix.mtx", "f/a b.h5")
    ]
    queries += [Listed("https://host/x.h5ad?id=1"), Listed("https://host/x.h5ad?id=2"), Listed("/g/q.h5ad", "mine")]
    named = names_of(queries, {})
    assert list(named.values()) == queries
    names = list(named)
    assert names[2:6] == ["y", "z", "matrix.mtx", "a b"]
    assert names[8] == "mine"
    assert [name.rpartition("-")[0] for name in (*names[:2], *names[6:8])] == ["x", "X", "x", "x"]
    assert names_of(queries[::-1], {}) == named
    # What an earlier run called a query, it stays; a newcomer of the same name gets another.
    again = names_of(queries[:2], {"/a/x.h5ad": "x"})
    assert list(again) == ["x", names[1]]
    assert list(names_of([Listed("/new/x.h5ad")], {"/a/x.h5ad": "x"})) != ["x"]


@pytest.mark.parametrize("name", ["a/b", "..", "_job", ".hidden", "a\\b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    refusal(QueryError, lambda: names_of([Listed("/q.h5ad", name)], {}), repr(name))


def test_a_name_that_is_given_twice_is_refused() -> None:
    queries = [Listed("/a.h5ad", "Same"), Listed("/b.h5ad", "same")]
    refusal(QueryError, lambda: names_of(queries, {}), "'Same' twice")
