"""What is checked before an endpoint starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from totalanvi.export.demo_endpoint import free_port
from totalanvi.serving.endpoint.server import _asked, _require_free, _url, serve
from totalanvi.serving.errors import BundleError, EndpointError, ServingError, SettingsError, UnknownReferenceError
from totalanvi.serving.version import software_version


def test_a_port_in_use_is_named(toy_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EndpointError, match=f"port {port}.*--port"):
            serve(toy_folder, port=port)


def test_an_address_that_is_not_ours_is_named(toy_folder: Path) -> None:
    with pytest.raises(EndpointError, match="--host"):
        serve(toy_folder, host="203.0.113.1")


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_a_port_that_is_none_is_named(toy_folder: Path, port: int) -> None:
    with pytest.raises(EndpointError, match="from 1 to 65535"):
        serve(toy_folder, port=port)


def test_a_bundle_that_cannot_be_opened_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        serve(tmp_path, port=free_port())


def test_an_endpoint_is_no_bundle() -> None:
    with pytest.raises(BundleError, match="expected a bundle to serve, found the URL of an endpoint; name a folder"):
        serve("http://localhost:3000", port=free_port())


def test_an_unusable_setting_is_told_first(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOTALANVI_MAX_CELLS", "many")
    with pytest.raises(SettingsError, match="TOTALANVI_MAX_CELLS"):
        serve(toy_folder, port=free_port())


def test_every_such_error_exits_with_2() -> None:
    assert {kind.exit_code for kind in (EndpointError, BundleError, SettingsError, ServingError)} == {2}


def test_names_become_addresses() -> None:
    assert _require_free("localhost", free_port()) in ("127.0.0.1", "::1")


def test_a_wildcard_is_asked_at_loopback() -> None:
    assert [_asked(address) for address in ("0.0.0.0", "::", "10.0.0.1")] == ["127.0.0.1", "::1", "10.0.0.1"]
    assert (_url("::1", 3000), _url("localhost", 80)) == ("http://[::1]:3000", "http://localhost:80")


def test_importing_the_service_leaves_torch_and_the_engine_out() -> None:
    code = (
        "import sys, totalanvi.serving.endpoint.service as s; "
        "print([m for m in ('torch', 'lightning', 'onnxruntime', 'anndata', 'mudata') if m in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)

    assert found.stdout.strip() == "[]"


def test_importing_the_client_leaves_everything_heavy_out() -> None:
    heavy = (
        "torch",
        "onnxruntime",
        "bentoml",
        "safetensors",
        "anndata",
        "pandas",
        "pyarrow",
        "httpx",
        "numpy",
        "scipy",
    )
    code = f"import sys, totalanvi.serving.client.client; print([m for m in {heavy} if m in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)

    assert found.stdout.strip() == "[]"


def test_nothing_to_serve_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOTALANVI_REFERENCE", raising=False)
    with pytest.raises(SettingsError, match="TOTALANVI_REFERENCE"):
        serve(port=free_port())


def test_a_default_that_is_not_there_is_told_first(toy_folder: Path) -> None:
    with pytest.raises(UnknownReferenceError, match="expected one of 'toy@1', found 'other'"):
        serve(toy_folder, default="other", port=free_port())


def service_says(code: str, **environment: str) -> str:
    """In a process of its own: the service is configured when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOTALANVI_")}
    program = f"import os; from totalanvi.serving.endpoint import service; print({code})"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_where_nothing_is_answered_the_service_is_imported_without_an_engine_and_reports_nothing_home() -> None:
    loaded = "{'numba', 'pyarrow', 'pandas', 'totalanvi.serving.endpoint.routes'} & set(__import__('sys').modules)"

    assert service_says(f"service.endpoint, {loaded}, os.environ['BENTOML_DO_NOT_TRACK']") == "None set() True"


def test_a_worker_is_not_ready_without_a_reference() -> None:
    assert service_says("service._open_endpoint().ready") == "False"


def test_the_service_serves_what_the_environment_names(toy_folder: Path) -> None:
    said = service_says(
        "(endpoint := service._open_endpoint()).references.look(), endpoint.references.find(None).full_name",
        TOTALANVI_REFERENCE=str(toy_folder),
    )

    assert said == "None toy@1"


def test_the_version_is_the_projects() -> None:
    assert f'version = "{software_version()}"' in (Path(__file__).parents[3] / "pyproject.toml").read_text()
