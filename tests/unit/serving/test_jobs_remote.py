"""Queries that are elsewhere, behind a real HTTP server: fetched, read, known again, and gone afterwards."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from tests.support.command_line import Run
from tests.support.files import file_size_limit, listing
from tests.support.queries import assert_three_parts, refusal, write_anndata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import QueryError
from totalanvi.serving.jobs.listed import listed_queries
from totalanvi.serving.jobs.remote import download, remote_identity, remote_name, shown

PLUG_IN = ("--samples", 1)


@dataclass
class Site:
    """A server of files; what it was asked for, and whether it breaks off in the middle of each."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    breaks_off: bool = False
    listings: list[str] = field(default_factory=list)
    """What a folder `listed/` is said to hold, one after another; the last one from then on."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, with a tag of each file's content as object stores have it."""

    site: Site

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
        super().end_headers()

    def copyfile(self, source: object, outputfile: object) -> None:
        if self.site.breaks_off:
            outputfile.write(source.read(1000))  # type: ignore[attr-defined]
            return
        super().copyfile(source, outputfile)  # type: ignore[type-var, misc]

    def do_GET(self) -> None:
        self.site.asked.append(("GET", self.path))
        if "forbidden" in self.path:
            self.send_error(403)
        elif self.path == "/listed/":
            page = self.site.listings[0].encode()
            self.site.listings[:-1] = self.site.listings[1:-1]
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder that is served: two queries, and a page."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_anndata(toy_query(12, 1), folder / "donor1.h5ad")
    write_anndata(toy_query(9, 2), folder / "donor 2.h5ad")
    (folder / "notes.html").write_text("<p>not a query</p>")
    return folder


@pytest.fixture
def site(files: Path) -> Iterator[Site]:
    """Serve the folder."""
    found = Site()
    handler = type("Handler", (_Handler,), {"site": found})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(files)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("where", ["/", "/*.h5ad"])
def test_a_folder_at_an_address_is_mapped(run: Run, toy_folder: Path, site: Site, tmp_path: Path, where: str) -> None:
    scored = tmp_path / "scored"
    words = ("map", toy_folder, f"{site.url}{where}", "--resume", scored, "--part-cells", 5, *PLUG_IN)
    code, printed, said = run(*words)
    assert code == 0, said
    assert "donor1: 12 cells in 3 parts\n" in printed
    assert listing(scored) == ["_job", "_summary.json", "donor 2", "donor1"]
    assert listing(scored / "_job") == ["job.json", "lock", "queries"]
    assert pq.read_table(scored).num_rows == 21

    site.asked.clear()
    code, printed, _ = run(*words)
    assert code == 0
    assert "donor1: 12 cells in 3 parts, 3 done by an earlier run\n" in printed
    assert [path for kind, path in site.asked if kind == "GET" and path.endswith(".h5ad")] == []


def test_a_file_is_fetched_once_and_anew_when_it_has_changed(
    run: Run, toy_folder: Path, site: Site, files: Path, tmp_path: Path
) -> None:
    scored = tmp_path / "scored"
    words = ("map", toy_folder, f"{site.url}/donor1.h5ad?token=secret", "-o", f"{scored}/", "--part-cells", 5, *PLUG_IN)
    assert run(*words)[0] == 0
    assert [path for _, path in site.asked].count("/donor1.h5ad?token=secret") == 1
    record = (scored / "_job" / "queries" / "donor1" / "query.json").read_text()
    assert json.loads(record)["input"]["stamp"].startswith("ETag ")
    assert "secret" not in record + (scored / "_summary.json").read_text()

    write_anndata(toy_query(4, 3), files / "donor1.h5ad")
    again = [word for word in words if word not in ("-o", f"{scored}/")]
    code, printed, said = run(*again, "--resume", scored)
    assert code == 0, said
    assert "donor1: 4 cells in 1 part\n" in printed
    assert listing(scored / "donor1") == ["part-00000.parquet"]


def test_a_list_at_an_address_names_its_neighbours(
    run: Run, toy_folder: Path, site: Site, files: Path, tmp_path: Path
) -> None:
    (files / "list.csv").write_text("query,name\ndonor1.h5ad,first\n")
    code, printed, said = run("map", toy_folder, f"{site.url}/list.csv", "-o", f"{tmp_path}/scored/", *PLUG_IN)
    assert code == 0, said
    assert "first: 12 cells in 1 part\n" in printed


def test_what_breaks_off_or_is_not_there_fails_alone(run: Run, toy_folder: Path, site: Site, tmp_path: Path) -> None:
    scored = f"{tmp_path}/scored/"
    wanted = (f"{site.url}/donor1.h5ad", f"{site.url}/absent.h5ad?token=secret", "nosuch://lab/donor.h5ad")
    site.breaks_off = True
    code, printed, said = run("map", toy_folder, *wanted, "-o", scored, *PLUG_IN)
    assert code == 2
    assert "nosuch" in said
    code, printed, said = run("map", toy_folder, *wanted[:2], "-o", scored, *PLUG_IN)
    assert code == 3
    assert "Queries:    0 done, 2 failed\n" in printed
    assert "secret" not in said
    for line in said.splitlines():
        assert_three_parts(line, "Expected to read")
    assert listing(Path(scored)) == ["_job", "_summary.json"]

    site.breaks_off = False
    code, printed, said = run("map", toy_folder, *wanted[:2], "--resume", scored, *PLUG_IN)
    assert code == 3
    assert "donor1: 12 cells in 1 part\n" in printed


def test_no_room_for_a_copy_ends_the_job(run: Run, toy_folder: Path, site: Site, tmp_path: Path) -> None:
    with file_size_limit(4_000):
        code, printed, said = run("map", toy_folder, f"{site.url}/", "-o", f"{tmp_path}/scored/", *PLUG_IN)
    assert (code, printed) == (2, "")
    assert_three_parts(said, "room for a copy of", "another place")
    assert listing(tmp_path / "scored") == ["_job"]


def test_what_is_known_of_a_file_follows_its_content(site: Site, files: Path) -> None:
    address = f"{site.url}/donor%202.h5ad"
    before = remote_identity(address)
    assert (before.file, before.bytes) == ("donor 2.h5ad", (files / "donor 2.h5ad").stat().st_size)
    assert remote_identity(address) == before
    write_anndata(toy_query(9, 5), files / "donor 2.h5ad")
    assert remote_identity(address) != before


def test_a_folder_elsewhere_is_a_query_or_holds_some(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    toy_query(7, 4).write_zarr(tmp_path / "stored.zarr")
    write_anndata(toy_query(5, 5), tmp_path / "donor.h5ad")
    store = fsspec.filesystem("memory")
    store.put(f"{tmp_path}/stored.zarr", "/lab/stored.zarr", recursive=True)
    store.put(f"{tmp_path}/donor.h5ad", "/lab/donor.h5ad")
    try:
        code, printed, said = run("map", toy_folder, "memory://lab/", "-o", f"{tmp_path}/all/", *PLUG_IN)
        assert code == 0, said
        assert "donor: 5 cells in 1 part\nstored: 7 cells in 1 part\n" in printed
        again = ("map", toy_folder, "memory://lab/stored.zarr/", "--resume", tmp_path / "one", *PLUG_IN)
        assert run(*again)[0] == 0
        assert "1 done by an earlier run" in run(*again)[1]
        before = remote_identity("memory://lab/stored.zarr")
        store.pipe("/lab/stored.zarr/more", b"changed")
        assert remote_identity("memory://lab/stored.zarr") != before
        store.store["/lab/stored.zarr/../../outside"] = store.store["/lab/stored.zarr/more"]
        code, _, said = run(*again)
        assert code == 3
        assert_three_parts(said, "in no folder above", "../../outside")
    finally:
        for name in [name for name in store.store if name.startswith("/lab/")]:
            del store.store[name]


def test_a_folder_is_copied_as_it_was_first_listed(site: Site, files: Path, tmp_path: Path) -> None:
    (files / "listed").mkdir()
    (files / "listed" / "zarr.json").write_text("{}")
    kept = '<a href="zarr.json">zarr.json</a>'
    # A client drops the dots of an address that it asks for: there is something.
    (files / "outside").write_text("meant for elsewhere")
    site.listings = [kept, f'{kept}<a href="../../outside">outside</a>']
    room = tmp_path / "job" / "room"
    room.mkdir(parents=True)
    assert listing(download(f"{site.url}/listed/", room)) == ["zarr.json"]
    assert listing(tmp_path / "job") == ["room"]
    refusal(QueryError, lambda: download(f"{site.url}/listed/", room), "in no folder above", "../../outside")


def test_no_secret_is_told_however_a_library_spells_it(site: Site, files: Path, tmp_path: Path) -> None:
    (files / "forbidden.h5ad").touch()  # a server that lets it be looked at, and not be read
    address = f"{site.url}/forbidden.h5ad?Credential=key%2F2026&Signature=secret%3D"
    said = refusal(QueryError, lambda: download(address, tmp_path), "403", "forbidden.h5ad?…")
    assert "Signature" not in said


def test_addresses_that_are_written_down() -> None:
    assert shown("simplecache::https://me:secret@host/x.h5ad") == "simplecache::https://host/x.h5ad"
    assert shown("s3://lab/a#1.h5ad") != shown("s3://lab/a#2.h5ad")
    assert shown("http://[x") == "http://[x"
    assert [remote_name(address) for address in ("s3://lab/../", "https://host", "s3://lab/a#1.h5ad")] == [
        "query",
        "query",
        "a#1.h5ad",
    ]


@pytest.mark.parametrize("entry", ["/etc/donor.h5ad", "file:///etc/donor.h5ad"])
def test_a_list_elsewhere_cannot_name_files_here(site: Site, files: Path, entry: str) -> None:
    (files / "list.csv").write_text(f"query\n{entry}\n")
    refusal(QueryError, lambda: listed_queries([f"{site.url}/list.csv"]), "a file of this machine", entry)
    assert len(listed_queries([f"file://{files}/list.csv"])) == 1
