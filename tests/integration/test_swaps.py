"""Two versions of a bundle, one put in the place of the other again and again while an endpoint works.

``SWAPS=100 pytest tests/integration/test_swaps.py`` does it that often.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from anndata import AnnData
from tests.support.server import RunningServer, running_server, wait_for
from tests.support.toy_bundle import toy_cells, toy_query, write_toy_bundle

from totalanvi.serving.client import Client
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, decode_response, encode_request

N_SWAPS = int(os.environ.get("SWAPS", "10"))
OPTIONS = MapOptions(samples=3)
N_CELLS = 20


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LocalReference]:
    """Two versions that impute different proteins."""
    folder = tmp_path_factory.mktemp("versions")
    return {
        version: LocalReference(write_toy_bundle(folder / version, version=version, noise_seed=int(version)))
        for version in ("1", "2")
    }


@pytest.fixture
def shelf(tmp_path: Path, versions: dict[str, LocalReference]) -> Path:
    (tmp_path / "shelf").mkdir()
    put(versions["1"], tmp_path / "shelf")
    return tmp_path / "shelf"


@pytest.fixture
def server(shelf: Path, tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(None, tmp_path, references=shelf, poll_seconds=0.05, max_queue=100) as running:
        yield running


def put(reference: LocalReference, shelf: Path) -> None:
    """Copy a bundle into a folder of bundles under another name, and give it its name once it is whole."""
    version = reference.info().version
    shutil.copytree(reference.bundle.path, shelf / f".{version}")
    (shelf / f".{version}").rename(shelf / version)


def served_version(server: RunningServer) -> str:
    return str(httpx.get(f"{server.url}/v1/info", trust_env=False, timeout=60).json()["version"])


def test_versions_that_are_swapped_under_load_fail_no_request_and_mix_no_answer(
    server: RunningServer, shelf: Path, versions: dict[str, LocalReference]
) -> None:
    cells, _ = toy_cells(N_CELLS, measured_share=1)
    query = toy_query(3 * N_CELLS)
    chunks = {v: reference.score(cells, OPTIONS).protein for v, reference in versions.items()}
    whole = {v: proteins_of(reference.map(query, samples=3)) for v, reference in versions.items()}
    assert not np.allclose(chunks["1"], chunks["2"], rtol=1e-3)
    body = encode_request(ChunkRequest(versions["1"].info().features_digest, OPTIONS, cells))
    done = threading.Event()
    answered: Counter[str] = Counter()
    lock = threading.Lock()

    def ask_chunks() -> None:
        with httpx.Client(trust_env=False, timeout=60) as web:
            while not done.is_set():
                answer = web.post(f"{server.url}/v1/map", content=body, headers={"Content-Type": MEDIA_TYPE})
                assert answer.status_code == 200, answer.text
                found = decode_response(
                    answer.content, n_cells=N_CELLS, n_labels=4, n_names=6, n_latent=5, n_proteins=6
                )
                version = found.reference.version
                np.testing.assert_allclose(found.mapped.protein, chunks[version], rtol=1e-5)
                with lock:
                    answered[f"chunk {version}"] += 1

    def map_queries() -> None:
        with Client(server.url, chunk_cells=7, concurrency=2) as client:
            while not done.is_set():
                mapped = client.map(query, samples=3)
                version = mapped.uns["totalanvi"]["reference"]["version"]
                np.testing.assert_allclose(proteins_of(mapped), whole[version], rtol=1e-5)
                with lock:
                    answered[f"query {version}"] += 1

    with ThreadPoolExecutor(4) as pool:
        load = [pool.submit(work) for work in (ask_chunks, ask_chunks, map_queries, map_queries)]
        try:
            for place in range(N_SWAPS):
                swap(server, shelf, versions, "2" if place % 2 == 0 else "1", lambda: any(work.done() for work in load))
        finally:
            done.set()
        for work in load:
            work.result()

    assert set(answered) == {"chunk 1", "chunk 2", "query 1", "query 2"}


def proteins_of(mapped: AnnData) -> np.ndarray:
    return np.asarray(mapped.obsm["totalanvi_protein"])


def swap(
    server: RunningServer,
    shelf: Path,
    versions: dict[str, LocalReference],
    version: str,
    given_up: Callable[[], bool],
) -> None:
    """Put a version into the folder, take the other one out, and wait until that is what is served."""
    other = "1" if version == "2" else "2"
    put(versions[version], shelf)
    wait_for(lambda: given_up() or version in offered(server))
    (shelf / other).rename(shelf / f".{other}")
    shutil.rmtree(shelf / f".{other}")
    wait_for(lambda: given_up() or (offered(server) == [version] and served_version(server) == version))


def offered(server: RunningServer) -> list[str]:
    answer = httpx.get(f"{server.url}/v1/references", trust_env=False, timeout=60).json()
    return [listed["version"] for listed in answer["references"]]
