"""Whole files, uploaded to a server in this process and read by real processes of their own."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import anndata
import h5py
import httpx
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from tests.support.stored_queries import FORMATS
from tests.support.toy_bundle import toy_query
from tests.support.uploads import MAX_BYTES, Open, left, refusal, wait_until_empty

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.endpoint.files import receive
from totalanvi.serving.endpoint.files.rooms import UPLOADS_VARIABLE, Rooms
from totalanvi.serving.endpoint.files.service import ARRIVING_PER_FILE
from totalanvi.serving.errors import SettingsError
from totalanvi.serving.mapping.local import LocalReference


@pytest.fixture
def web(opened: Open) -> httpx.Client:
    return opened()


def read_h5ad(body: bytes) -> AnnData:
    return anndata.read_h5ad(BytesIO(body))


def test_an_annotated_copy_comes_back(
    web: httpx.Client, uploads: Path, reference: LocalReference, tmp_path: Path
) -> None:
    query = toy_query(40)
    query.uns["mine"] = "kept"
    query.write_h5ad(tmp_path / "query.h5ad")

    answer = web.post(
        "/v1/files", content=(tmp_path / "query.h5ad").read_bytes(), headers={"X-Request-ID": "mine-1234"}
    )

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-hdf5"
    assert answer.headers["content-disposition"] == 'attachment; filename="annotated.h5ad"'
    assert answer.headers["x-request-id"] == "mine-1234"
    found, expected = read_h5ad(answer.content), reference.map(query)
    assert list(found.obs["totalanvi_label"]) == list(expected.obs["totalanvi_label"])
    np.testing.assert_allclose(found.obsm["X_totalanvi"], expected.obsm["X_totalanvi"], atol=1e-5)
    assert found.uns["mine"] == "kept"
    assert (found.X != query.X).nnz == 0
    wait_until_empty(uploads)


def test_a_form_a_table_and_options(web: httpx.Client, reference: LocalReference, tmp_path: Path) -> None:
    query = toy_query(30)
    path = FORMATS["10x h5"](query, tmp_path)

    answer = web.post(
        "/v1/files?impute=false&proteins=none&false_positive_rate=0.3",
        files={"cells": ("../../etc/passwd", path.read_bytes())},
        headers={"Accept": "application/vnd.apache.parquet;q=1, */*"},
    )

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = pd.read_parquet(BytesIO(answer.content))
    expected = reference.map(query, proteins="none", impute=False, false_positive_rate=0.3).obs
    assert list(table["totalanvi_label"]) == list(expected["totalanvi_label"])
    assert not [name for name in table.columns if name.startswith("protein:")]


def test_a_mudata_comes_back_as_one(web: httpx.Client, tmp_path: Path) -> None:
    query = toy_query(20)
    path = FORMATS["h5mu"](query, tmp_path)

    answer = web.post("/v1/files", content=path.read_bytes())

    assert answer.status_code == 200, answer.text
    (tmp_path / "annotated.h5mu").write_bytes(answer.content)
    with not_pulling():
        found = mudata.read_h5mu(tmp_path / "annotated.h5mu")
    assert list(found["rna"].obs["totalanvi_guess"]) == list(query.obs["truth"])


def test_what_is_no_upload_is_refused_without_a_process(web: httpx.Client, uploads: Path) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=edge"}
    part = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
    cases: list[tuple[str, bytes, dict[str, str], int, str]] = [
        ("", b"", {}, 422, "curl -T FILE"),
        ("", bytes(MAX_BYTES + 1), {}, 413, f"at most {MAX_BYTES} bytes"),
        ("", b"x", {"Content-Encoding": "zstd"}, 415, "zstd"),
        ("?impute=maybe", b"x", {}, 422, "'impute'"),
        ("?output=csv", b"x", {}, 422, "'output'"),
        ("?path=/etc/passwd", b"x", {}, 422, "'path'"),
        ("", b"x", {"X-Request-ID": "../../x"}, 422, "X-Request-ID"),
        ("", b"no form", form, 422, "a form"),
        ("", part, form, 422, "ends early"),
        ("", part + part + b"--edge--\r\n", form, 422, "found 2"),
        ("", b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--edge--\r\n', form, 422, "found none"),
        ("", b"x", {"Content-Type": "multipart/form-data"}, 422, "a form"),
        ("", b"x", {"Content-Type": f"multipart/form-data; boundary={'e' * 5000}"}, 422, "a form"),
    ]
    for query, body, headers, status, message in cases:
        found, _, said = refusal(web.post(f"/v1/files{query}", content=body, headers=headers))
        assert (found, message in said) == (status, True), said
    large = part.replace(b"x\r\n", bytes(MAX_BYTES + 1)) + b"\r\n--edge--\r\n"
    assert refusal(web.post("/v1/files", content=large, headers=form))[0] == 413
    announced = web.post("/v1/files", content=(bytes(1000) for _ in range(MAX_BYTES // 1000 + 2)))
    assert refusal(announced)[0] == 413
    assert left(uploads) == []


def external_link(path: Path) -> None:
    toy_query(5).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("/etc/passwd", "/X")


def bomb(path: Path) -> None:
    toy_query(5).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("obsm/big", shape=(5, 1 << 40), chunks=(1, 1 << 20), dtype="f4", compression="gzip")


def fractions(path: Path) -> None:
    query = toy_query(5)
    query.X = query.X * 0.5
    query.write_h5ad(path)


def test_what_is_wrong_with_a_file_is_told_without_naming_a_path(
    web: httpx.Client, uploads: Path, tmp_path: Path
) -> None:
    cases: list[tuple[Callable[[Path], object], int, str, str]] = [
        (lambda path: path.write_bytes(b"not HDF5"), 422, "QueryError", "expected an HDF5 file"),
        (external_link, 422, "QueryError", "a link into another file"),
        (bomb, 422, "QueryError", "or never written"),
        (fractions, 422, "CountsError", "raw counts"),
    ]
    for place, (write, status, kind, message) in enumerate(cases):
        path = tmp_path / f"{place}.h5ad"
        write(path)
        found = refusal(web.post("/v1/files", content=path.read_bytes()))
        assert found[:2] == (status, kind)
        assert message.lower() in found[2].lower()
        assert str(tmp_path) not in found[2]
    assert left(uploads) == []


def test_a_file_that_takes_too_much_is_given_up(opened: Open, uploads: Path, tmp_path: Path) -> None:
    toy_query(40).write_h5ad(tmp_path / "query.h5ad")
    body = (tmp_path / "query.h5ad").read_bytes()

    assert refusal(opened(max_file_cells=39).post("/v1/files", content=body))[:2] == (413, "TooLargeError")
    late = refusal(opened(file_seconds=0.5).post("/v1/files", content=body))
    assert late[:2] == (504, "DeadlineError")
    small = opened(file_memory_bytes=200 << 20).post("/v1/files", content=body)
    assert small.status_code in (413, 422), small.text
    wait_until_empty(uploads)


def test_a_client_that_hangs_up_ends_the_work(opened: Open, uploads: Path, tmp_path: Path) -> None:
    toy_query(40).write_h5ad(tmp_path / "query.h5ad")
    web = opened(max_files=1)
    body = (tmp_path / "query.h5ad").read_bytes()

    with pytest.raises(httpx.ReadTimeout):
        web.post("/v1/files", content=body, headers={"X-Request-ID": "impatient"}, timeout=1)

    wait_until_empty(uploads)
    assert web.get("/v1/files/impatient/progress").status_code == 404


def trickle(n_blocks: int) -> Iterator[bytes]:
    for _ in range(n_blocks):
        yield b"x"
        time.sleep(0.1)


def test_next_to_nothing_keeps_no_place(opened: Open, uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "_SILENT_SECONDS", 0.5)
    web = opened(max_files=1)

    found = refusal(web.post("/v1/files", content=trickle(50)))

    assert found[:2] == (504, "DeadlineError")
    assert "bytes of the file a second" in found[2]
    with socket.create_connection((web.base_url.host, web.base_url.port or 80)) as silent:
        silent.sendall(b"POST /v1/files HTTP/1.1\r\nHost: here\r\nContent-Length: 5000\r\n\r\nx")
        assert b" 504 " in silent.recv(1000)
    assert left(uploads) == []


def test_places_are_limited(opened: Open, uploads: Path) -> None:
    web = opened(max_files=1)
    with ExitStack() as held:
        for _ in range(ARRIVING_PER_FILE):
            one = held.enter_context(socket.create_connection((web.base_url.host, web.base_url.port or 80)))
            one.sendall(b"POST /v1/files HTTP/1.1\r\nHost: here\r\nContent-Length: 5000\r\n\r\nx")
        end = time.monotonic() + 30
        while len(left(uploads)) < ARRIVING_PER_FILE:
            assert time.monotonic() < end
            time.sleep(0.02)
        busy = web.post("/v1/files", content=b"x")
        assert refusal(busy)[:2] == (429, "BusyError")
        assert int(busy.headers["retry-after"]) > 0
        assert web.get("/v1/info").status_code == 200
    wait_until_empty(uploads)


def test_progress_is_told_while_a_file_is_at_work(web: httpx.Client, tmp_path: Path) -> None:
    toy_query(400).write_h5ad(tmp_path / "query.h5ad")
    body = (tmp_path / "query.h5ad").read_bytes()
    answers: list[httpx.Response] = []
    at_work = threading.Thread(
        target=lambda: answers.append(web.post("/v1/files", content=body, headers={"X-Request-ID": "watched-1"}))
    )

    at_work.start()
    told = []
    while at_work.is_alive():
        found = web.get("/v1/files/watched-1/progress")
        if found.status_code == 200:
            told.append(found.json())
        time.sleep(0.02)
    at_work.join()

    assert answers[0].status_code == 200, answers[0].text
    assert {"reading", "mapping"} & {one["stage"] for one in told}
    cells = [one["cells"] for one in told]
    assert cells == sorted(cells)
    assert {one["total"] for one in told} <= {None, 400}
    # The stay of a file ends once its answer was sent, which a client may notice first.
    end = time.monotonic() + 30
    while web.get("/v1/files/watched-1/progress").status_code != 404:
        assert time.monotonic() < end


def test_folders_are_private_and_a_crashed_endpoints_are_swept(tmp_path: Path) -> None:
    parent = tmp_path / "uploads"
    crash = (
        "import os, sys; from pathlib import Path; from totalanvi.serving.endpoint.files.rooms import Rooms\n"
        "rooms = Rooms(Path(sys.argv[1])); room = rooms.room(); folder = room.__enter__()\n"
        "(folder / 'query.h5').write_bytes(b'secret'); print(folder, flush=True); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", crash, parent], capture_output=True, text=True, timeout=60)
    abandoned = Path(ended.stdout.strip())
    assert (abandoned / "query.h5").is_file()

    first = Rooms(parent)
    with first.room() as folder:
        (folder / "query.h5").write_bytes(b"secret")
        second = Rooms(parent)

        assert not abandoned.exists()
        assert (folder / "query.h5").is_file()
        for path in (parent, first.path, folder):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not folder.exists()
    second.close()
    first.close()
    assert list(parent.iterdir()) == []


def test_a_folder_that_is_not_private_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    (tmp_path / "file").touch()

    for name in ("open", "link", "file"):
        with pytest.raises(SettingsError, match=UPLOADS_VARIABLE):
            Rooms(tmp_path / name)
