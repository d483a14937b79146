"""An endpoint of few cells, and the page that it serves in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import SECONDS, running_browser, watched
from tests.support.page_steps import served, write
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.serving.endpoint.files.rooms import UPLOADS_VARIABLE
from totalanvi.serving.mapping.local import LocalReference


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        expect.set_options(timeout=SECONDS * 1000)
        yield browser


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def reference(home: Path) -> LocalReference:
    return LocalReference(write_toy_bundle(home / "toy"), provider="cpu")


@pytest.fixture(scope="module")
def uploads(home: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(UPLOADS_VARIABLE, str(home / "uploads"))
        yield home / "uploads"


@pytest.fixture(scope="module")
def url(reference: LocalReference, uploads: Path) -> Iterator[str]:
    with served(reference) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with watched(browser, url) as page:
        yield page


@pytest.fixture(scope="module")
def query(home: Path) -> Path:
    return write(toy_query(600), home / "my cells.h5ad")
