"""What the tests of serving share."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from tests.support.command_line import Run, runner
from tests.support.queries import write_anndata
from tests.support.server import app_in_thread, endpoint_of
from tests.support.site import Site
from tests.support.toy_bundle import toy_query, write_toy_bundle
from tests.support.uploads import MAX_BYTES, Open

from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.files.rooms import UPLOADS_VARIABLE
from totalanvi.serving.endpoint.request_log import JsonLines
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, stdout, stderr."""
    return runner(capsys)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the toy reference. Not to be changed: copy it."""
    return write_toy_bundle(tmp_path_factory.mktemp("written") / "toy")


@pytest.fixture(scope="session")
def reference(toy_folder: Path) -> LocalReference:
    """The toy reference, on the CPU."""
    return LocalReference(toy_folder, provider="cpu")


@pytest.fixture
def query(tmp_path: Path) -> Path:
    """23 cells in `query.h5ad`, alone in `tmp_path`."""
    return write_anndata(toy_query(23), tmp_path / "query.h5ad")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What an endpoint in this process logs meanwhile."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    ours = logging.getLogger("totalanvi")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield written
    ours.removeHandler(handler)
    ours.setLevel(level)


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that endpoints of a test keep uploaded files in."""
    monkeypatch.setenv(UPLOADS_VARIABLE, str(tmp_path / "uploads"))
    return tmp_path / "uploads"


@pytest.fixture
def opened(uploads: Path, reference: LocalReference) -> Iterator[Open]:
    """Serve with other limits, and with keys if there are any."""
    with ExitStack() as stack:

        def serve(settings: AccessSettings | None = None, **limits: float) -> httpx.Client:
            endpoint = endpoint_of(
                reference.bundle.path,
                Limits(**{"max_file_bytes": MAX_BYTES, "max_cells": 16} | limits),
                lambda _: reference,
            )
            endpoint.references.look()
            app = create_app(endpoint)
            return stack.enter_context(app_in_thread(app if settings is None else Access(app, settings)))

        yield serve


@pytest.fixture
def site(reference: LocalReference) -> Iterator[Site]:
    """An endpoint that fails when it is told to."""
    endpoint = endpoint_of(reference.bundle.path, opened=lambda _: reference)
    endpoint.references.look()
    site = Site(create_app(endpoint))
    with app_in_thread(site) as web:
        site.url = str(web.base_url).rstrip("/")
        yield site
