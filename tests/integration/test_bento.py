"""The Bento: built from a checkout, started from its own folder, with nothing but what it declares."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.export.demo_endpoint import free_port
from totalanvi.serving.client import Client
from totalanvi.serving.endpoint.page.routes import PAGE_PATHS
from totalanvi.serving.errors import EndpointError, NotReadyError

ROOT = Path(__file__).parents[2]
BENTOML = Path(sys.executable).with_name("bentoml")

UNDECLARED = ("lightning", "matplotlib", "onnx", "sklearn", "torch", "typer", "umap")
"""Import names of what the project needs elsewhere, and an endpoint must do without."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """The tests' own environment, in which no undeclared package can be imported."""
    absent = home / "absent"
    absent.mkdir()
    for name in UNDECLARED:
        (absent / f"{name}.py").write_text("raise ModuleNotFoundError('not declared by the Bento', name=__name__)\n")
    return os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(absent)}


@pytest.fixture(scope="module")
def bento(home: Path, environment: dict[str, str]) -> Path:
    checkout = home / "checkout"
    shutil.copytree(ROOT / "serving", checkout / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("bentofile.yaml", "pyproject.toml"):
        shutil.copy(ROOT / file, checkout)
    subprocess.run([BENTOML, "build", "--version", "test"], cwd=checkout, env=environment, check=True, timeout=120)
    shutil.rmtree(checkout)
    return home / "bentos" / "totalanvi" / "test"


@pytest.fixture(scope="module")
def endpoint(home: Path, bento: Path, environment: dict[str, str]) -> Iterator[Client]:
    bundle = write_toy_bundle(home / "toy")
    port = free_port()
    process = subprocess.Popen(
        [BENTOML, "serve", ".", "--host", "127.0.0.1", "--port", str(port)],
        cwd=bento,
        env=environment | {"TOTALANVI_REFERENCE": str(bundle)},
    )
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            _wait_until_ready(client)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _wait_until_ready(client: Client) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            client.info()
        except (EndpointError, NotReadyError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def test_the_bento_maps(endpoint: Client) -> None:
    query = toy_query(30)

    mapped = endpoint.map(query)

    assert list(mapped.obs["totalanvi_guess"]) == list(query.obs["truth"])


def test_the_bento_maps_files(endpoint: Client, tmp_path: Path) -> None:
    query = toy_query(30)
    query.write_h5ad(tmp_path / "query.h5ad")

    answer = httpx.post(
        f"{endpoint.url}/v1/files?output=parquet",
        content=(tmp_path / "query.h5ad").read_bytes(),
        timeout=120,
        trust_env=False,
    )

    assert answer.status_code == 200, answer.text
    assert list(pd.read_parquet(BytesIO(answer.content))["totalanvi_guess"]) == list(query.obs["truth"])


def test_the_bento_has_the_page(endpoint: Client) -> None:
    for path in PAGE_PATHS:
        answer = httpx.get(f"{endpoint.url}{path}", trust_env=False)
        assert answer.status_code == 200, path
    assert "<title>Map cells to a reference</title>" in httpx.get(endpoint.url, trust_env=False).text


def test_the_bento_knows_its_version(endpoint: Client) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()

    assert f'version = "{endpoint.info().server}"' in pyproject


def test_the_service_is_the_bentos_own_and_needs_no_torch(bento: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, bentoml; bentoml.load('.'); import totalanvi.serving.endpoint.service as service; "
        "print(service.__file__); assert 'torch' not in sys.modules"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bento,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert loaded.stdout.strip() == str(bento / "src/serving/totalanvi/serving/endpoint/service.py")


def test_the_bento_declares_pinned_versions_of_constraints() -> None:
    declared = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["python"]["packages"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    # The same release under another name, for platforms without the GPU wheel.
    pins.setdefault("onnxruntime", pins["onnxruntime-gpu"])

    for requirement in map(Requirement, declared):
        assert str(requirement.specifier) == f"=={pins[canonicalize_name(requirement.name)]}", requirement.name


def test_the_bento_declares_what_the_serve_extra_brings() -> None:
    declared = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["python"]["packages"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {Requirement(line).name for line in extras["serve"]} - {"totalanvi"}

    assert needed <= {canonicalize_name(Requirement(line).name) for line in declared}


def test_the_bento_holds_only_the_serving_source(bento: Path) -> None:
    source = bento / "src"
    files = {path.relative_to(source).parts[:3] for path in source.rglob("*") if path.is_file()}

    assert {parts[0] for parts in files} == {"bentofile.yaml", "pyproject.toml", "serving"}
    assert {parts[1:] for parts in files if parts[0] == "serving"} == {
        ("totalanvi_bento.py",),
        ("totalanvi", "formats"),
        ("totalanvi", "machine"),
        ("totalanvi", "pages"),
        ("totalanvi", "serving"),
    }
