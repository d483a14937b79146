"""A real endpoint in a process of its own, and every way to ask it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from tests.support.command_line import CONSOLE_SCRIPT
from tests.support.server import RunningServer, running_server
from tests.support.toy_bundle import TOY, toy_cells, toy_query, write_toy_bundle

from totalanvi.serving.client import Client
from totalanvi.serving.client.transport import Transport
from totalanvi.serving.errors import AlignmentError, CountsError, EndpointError, QueryError, TooLargeError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.arrow_stream import compress
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, decode_response, encode_request
from totalanvi.serving.wire.protocol import PROTOCOL

MAX_CELLS = 64
MAX_BODY_BYTES = 40_000
MAX_JSON_BYTES = 4096
SLOTS = 3

ARROW = {"Content-Type": MEDIA_TYPE}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture(scope="module")
def local(bundle: Path) -> LocalReference:
    return LocalReference(bundle)


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(
        bundle,
        tmp_path_factory.mktemp("home"),
        max_cells=MAX_CELLS,
        max_body_bytes=MAX_BODY_BYTES,
        max_json_bytes=MAX_JSON_BYTES,
        max_concurrency=1,
        max_queue=SLOTS - 1,
    ) as running:
        yield running
    assert running.process.returncode == 0


@pytest.fixture
def web(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.url, chunk_cells=10) as remote:
        yield remote


def chunk(local: LocalReference, n_cells: int = 8, **options: Any) -> bytes:
    cells, _ = toy_cells(n_cells, measured_share=1)
    return encode_request(ChunkRequest(local.info().features_digest, MapOptions(**options), cells))


def error(response: httpx.Response) -> tuple[int, str, str]:
    fault = response.json()["error"]
    return response.status_code, fault["type"], fault["message"]


def test_probes_answer(web: httpx.Client) -> None:
    assert web.get("/livez").status_code == 200
    assert web.get("/readyz").status_code == 200


def test_info_names_the_reference_and_the_limits(web: httpx.Client, local: LocalReference) -> None:
    info = web.get("/v1/info").json()

    assert (info["name"], info["version"], info["digest"]) == ("toy", "1", local.bundle.digest)
    assert (info["labels"], info["proteins"], info["n_genes"]) == (TOY.labels, TOY.proteins, len(TOY.genes))
    assert info["protocol"] == PROTOCOL
    assert info["limits"]["max_cells"] == MAX_CELLS


def test_features_and_labels(web: httpx.Client, local: LocalReference) -> None:
    features = web.get("/v1/features").json()

    assert features["digest"] == local.info().features_digest
    assert features["features"]["genes"] == TOY.genes
    assert web.get("/v1/labels").json() == {"labels": TOY.labels}


def test_predict_maps_cells_given_as_json(web: httpx.Client) -> None:
    markers = dict.fromkeys(np.array(TOY.genes)[TOY.markers[2]], 8)
    request = {"cells": [{"id": "mine", "genes": markers, "proteins": {"CD8a": 80}}], "options": {"samples": 1}}

    answer = web.post("/v1/predict", json=request)

    assert answer.status_code == 200
    (cell,) = answer.json()["cells"]
    assert (cell["id"], cell["guess"]) == ("mine", "CD8 T")
    assert set(cell["proteins"]) == set(TOY.proteins)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_chunk_is_mapped_as_in_process(web: httpx.Client, local: LocalReference, compressed: bool) -> None:
    cells, _ = toy_cells(8, measured_share=1)
    body = chunk(local)

    answer = web.post(
        "/v1/map",
        content=compress(body) if compressed else body,
        headers=ARROW | ({"Content-Encoding": "zstd"} if compressed else {}),
    )

    assert answer.headers["content-type"] == MEDIA_TYPE
    received = decode_response(answer.content, n_cells=8, n_labels=4, n_names=6, n_latent=5, n_proteins=6)
    assert received.reference.digest == local.bundle.digest
    expected_arrays = local.score(cells, MapOptions()).arrays()
    assert received.mapped.arrays().keys() == expected_arrays.keys()
    for name, expected in expected_arrays.items():
        np.testing.assert_allclose(received.mapped.arrays()[name], expected, atol=1e-5)


def test_cells_aligned_to_other_features_get_409(web: httpx.Client) -> None:
    body = encode_request(ChunkRequest("0" * 64, MapOptions(), toy_cells(3)[0]))

    status, kind, message = error(web.post("/v1/map", content=body, headers=ARROW))

    assert (status, kind) == (409, "StaleFeaturesError")
    assert "/v1/features" in message


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "kind"),
    [
        ("/v1/map", b"not Arrow", ARROW, 422, "QueryError"),
        ("/v1/map", b"", ARROW, 422, "QueryError"),
        ("/v1/map", b"not zstd", ARROW | {"Content-Encoding": "zstd"}, 422, "QueryError"),
        ("/v1/map", b"{}", {"Content-Type": "application/json"}, 415, "MediaTypeError"),
        ("/v1/map", b"x", ARROW | {"Content-Encoding": "gzip"}, 415, "MediaTypeError"),
        ("/v1/map", bytes(MAX_BODY_BYTES + 1), ARROW, 413, "TooLargeError"),
        ("/v1/predict", b"{", {"Content-Type": "application/json"}, 422, "QueryError"),
        ("/v1/predict", b'{"cells": []}', {"Content-Type": "application/json"}, 422, "QueryError"),
        ("/v1/predict", b'{"cells": [{"genes": {"GENE000": NaN}}]}', {"Content-Type": "application/json"}, 422, None),
        ("/v1/predict", b'{"cells": [{"genes": {"GENE000": 0.5}}]}', {"Content-Type": "application/json"}, 422, None),
        ("/v1/predict", b'{"cells": [{"genes": {"X": 1}}]}', {"Content-Type": "application/json"}, 422, None),
        ("/v1/predict", b"{}", {"Content-Type": "text/plain"}, 415, "MediaTypeError"),
        ("/v1/predict", b" " * (MAX_JSON_BYTES + 1), {"Content-Type": "application/json"}, 413, "TooLargeError"),
    ],
)
def test_bad_bodies_are_named(
    web: httpx.Client, path: str, content: bytes, headers: dict[str, str], status: int, kind: str | None
) -> None:
    found_status, found_kind, message = error(web.post(path, content=content, headers=headers))

    assert found_status == status
    assert kind is None or found_kind == kind
    assert message


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(web: httpx.Client) -> None:
    blocks = (bytes(1000) for _ in range(MAX_BODY_BYTES // 1000 + 2))

    assert error(web.post("/v1/map", content=blocks, headers=ARROW))[:2] == (413, "TooLargeError")


def test_too_many_cells_in_a_chunk_get_413(web: httpx.Client, local: LocalReference) -> None:
    answer = web.post("/v1/map", content=chunk(local, MAX_CELLS + 1), headers=ARROW)

    assert error(answer)[:2] == (413, "TooLargeError")


def test_wrong_methods_get_405(web: httpx.Client) -> None:
    assert error(web.get("/v1/map"))[0] == 405


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nix", 404), ("GET", "/v1/nix", 404), ("POST", "/nix/nix", 404), ("DELETE", "/livez", 405)],
)
def test_what_bentoml_refuses_is_told_in_json(web: httpx.Client, method: str, path: str, status: int) -> None:
    answer = web.request(method, path)
    assert error(answer)[:2] == (status, "EndpointError")
    assert error(answer)[2].startswith(f"{method} {path}: ")
    assert ("allow" in answer.headers) == (status == 405)
    assert web.head(path).content == b""


def test_errors_of_the_inference_protocol_are_plain_there_too(web: httpx.Client) -> None:
    answer = web.get("/v2/nix")
    assert (answer.status_code, answer.json()) == (404, {"error": "GET /v2/nix: Not Found."})


def test_refusals_in_json_hide_nothing_of_the_server(web: httpx.Client) -> None:
    assert web.get("/v1/info/", follow_redirects=True).json()["name"] == web.get("/v1/info").json()["name"]
    assert web.get("/readyz").text == "\n"


def test_under_load_some_are_told_to_come_back_and_probes_still_answer(
    server: RunningServer, web: httpx.Client, local: LocalReference
) -> None:
    body = chunk(local, MAX_CELLS, samples=1000)
    begin = threading.Barrier(12)

    def ask(_: int) -> httpx.Response:
        begin.wait()
        return httpx.post(f"{server.url}/v1/map", content=body, headers=ARROW, timeout=60, trust_env=False)

    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, place) for place in range(12)]
        for path in ("/livez", "/readyz", "/metrics", "/v1/info", "/v1/references") * 3:
            assert web.get(path).status_code == 200
        assert not all(one.done() for one in asked), "the load was over before the probes were"
        refused, mapped = [], []
        for answer in (one.result() for one in asked):
            (mapped if answer.status_code == 200 else refused).append(answer)

    assert len(mapped) >= SLOTS
    assert refused
    for answer in refused:
        assert error(answer)[:2] == (429, "BusyError")
        assert int(answer.headers["retry-after"]) >= 1
    assert len({answer.content for answer in mapped}) == 1


def test_metrics_count_requests_and_cells(web: httpx.Client, local: LocalReference) -> None:
    def cells_mapped() -> float:
        lines = web.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('totalanvi_cells_total{route="map"}'))

    before = cells_mapped()
    assert web.post("/v1/map", content=chunk(local, 5), headers=ARROW).status_code == 200

    assert cells_mapped() == before + 5
    text = web.get("/metrics").text
    assert 'totalanvi_requests_total{route="map",status="200"}' in text
    assert "totalanvi_ready 1.0" in text


def assert_same(found: AnnData, expected: AnnData) -> None:
    for key in ("totalanvi_label", "totalanvi_guess", "totalanvi_certain", "totalanvi_set"):
        assert list(found.obs[key]) == list(expected.obs[key])
    for key in ("totalanvi_confidence", "totalanvi_novelty"):
        np.testing.assert_allclose(found.obs[key], expected.obs[key], atol=1e-5)
    keys = [key for key in expected.obsm if "totalanvi" in key]
    assert len(keys) >= 3
    for key in keys:
        left, right = found.obsm[key], expected.obsm[key]
        if isinstance(right, pd.DataFrame):
            pd.testing.assert_frame_equal(left, right, atol=1e-5, rtol=1e-5)
        else:
            np.testing.assert_allclose(left, right, atol=1e-5)
    assert json.dumps(found.uns["totalanvi"], default=str) == json.dumps(expected.uns["totalanvi"], default=str)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"proteins": "none", "impute_as": "run1", "coverage": 0.7, "certainty": 0.99},
        {"impute": False, "false_positive_rate": 0.3},
        {"false_positive_rate": 0.3, "keep_unknown_labels": True},
        {"samples": 1, "background": "include", "batch_size": 7},
    ],
)
def test_the_client_maps_as_in_process(client: Client, local: LocalReference, options: dict[str, Any]) -> None:
    query = toy_query(33)

    assert_same(client.map(query, **options), local.map(query, **options))


def test_the_client_maps_a_mudata(client: Client, local: LocalReference) -> None:
    query = toy_query(20)
    table = query.obsm.pop("protein_expression")
    proteins = AnnData(table.to_numpy(), obs=pd.DataFrame(index=table.index), var=pd.DataFrame(index=table.columns))
    together = MuData({"rna": query, "prot": proteins[5:].copy()})

    assert_same(client.map(together)["rna"], local.map(together)["rna"])


def test_the_client_maps_a_file(client: Client, local: LocalReference, tmp_path: Path) -> None:
    query = toy_query(25)
    query.write_h5ad(tmp_path / "query.h5ad")

    assert_same(client.map(tmp_path / "query.h5ad"), local.map(query))


def test_the_client_compresses_what_leaves_the_machine(
    client: Client, local: LocalReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "is_loopback", False)
    query = toy_query(20)

    assert_same(client.map(query), local.map(query))


def test_the_client_splits_what_exceeds_the_limits(client: Client, local: LocalReference) -> None:
    query = toy_query(3 * MAX_CELLS)

    assert_same(client.map(query, batch_size=1000, samples=2), local.map(query, samples=2))


def test_a_busy_endpoint_makes_the_client_wait_not_fail(server: RunningServer, local: LocalReference) -> None:
    query = toy_query(60)
    with Client(server.url, concurrency=8, chunk_cells=2) as eager:
        assert_same(eager.map(query, samples=100), local.map(query, samples=100))


def test_errors_are_the_same_class_here_and_there(client: Client) -> None:
    fractions = toy_query(5)
    fractions.X = fractions.X * 0.5
    strangers = toy_query(5)
    strangers.var = pd.DataFrame(index=[f"OTHER{i}" for i in range(strangers.n_vars)])

    with pytest.raises(CountsError):
        client.map(fractions)
    with pytest.raises(AlignmentError):
        client.map(strangers)
    with pytest.raises(QueryError, match="samples"):
        client.map(toy_query(5), samples=0)


def test_an_error_of_the_server_comes_back_as_its_class(client: Client) -> None:
    with pytest.raises(TooLargeError, match=f"at most {MAX_JSON_BYTES} bytes"):
        client._carrier.post("/v1/predict", b" " * 5000, {"Content-Type": "application/json"})


def test_no_counts_in_the_log(server: RunningServer, web: httpx.Client) -> None:
    web.post("/v1/predict", json={"cells": [{"genes": {"GENE000": 987654}}]})
    web.post("/v1/predict", json={"cells": [{"genes": {"GENE000": -987654}}]})

    assert "987654" not in server.log.read_text()


def test_the_command_line_maps_at_an_endpoint(server: RunningServer, local: LocalReference, tmp_path: Path) -> None:
    query = toy_query(12)
    query.write_h5ad(tmp_path / "query.h5ad")

    subprocess.run(
        [CONSOLE_SCRIPT, "map", server.url, tmp_path / "query.h5ad", "-o", tmp_path / "out.parquet"],
        check=True,
        timeout=120,
    )

    table = pd.read_parquet(tmp_path / "out.parquet")
    assert list(table["totalanvi_label"]) == list(local.map(query).obs["totalanvi_label"])


def test_a_port_in_use_is_an_error_before_anything_starts(server: RunningServer, bundle: Path) -> None:
    started = subprocess.run(
        [CONSOLE_SCRIPT, "serve", bundle, "--port", str(server.port)], capture_output=True, text=True, timeout=120
    )

    assert started.returncode == 2
    assert "--port" in started.stderr
    assert "Traceback" not in started.stderr


def test_an_endpoint_that_is_not_there_is_told_soon() -> None:
    started = time.perf_counter()
    with pytest.raises(EndpointError, match="totalanvi serve"):
        Client("http://127.0.0.1:9").info()
    assert time.perf_counter() - started < 10
