"""What the tests of serving share."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command_line import Run, runner
from tests.support.queries import write_anndata
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.serving.endpoint.request_log import JsonLines
from totalanvi.serving.mapping.local import LocalReference


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
