"""What somebody does on the endpoint's page, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anndata import AnnData
from playwright.sync_api import Download, Page, expect
from tests.support.server import app_in_thread, endpoint_of

from totalanvi.serving.endpoint.access.headers import SafeHeaders
from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.page.routes import PAGE_PATHS
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits

__all__ = ["MAX_BYTES", "choose", "download", "drop", "map_to_result", "rows", "served", "upload", "write"]

MAX_BYTES = 2_000_000


@contextmanager
def served(
    reference: LocalReference, settings: AccessSettings | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """Serve a reference to browsers, files of two megabytes unless told otherwise; yields the address."""
    limits = limits or Limits(max_file_bytes=MAX_BYTES, max_cells=256)
    endpoint = endpoint_of(reference.bundle.path, limits, lambda _: reference)
    endpoint.references.look()
    app = SafeHeaders(Access(create_app(endpoint), settings or AccessSettings(), pages=PAGE_PATHS))
    with app_in_thread(app) as web:
        yield str(web.base_url).rstrip("/")


def write(query: AnnData, path: Path) -> Path:
    """Write a query where it may be chosen."""
    query.write_h5ad(path)
    return path


def choose(page: Page, file: Path) -> None:
    """Choose a file."""
    expect(page.locator("#start")).to_be_visible()
    page.set_input_files("#file", file)


def upload(page: Page, file: Path) -> None:
    """Choose a file, and wait until it was looked at."""
    choose(page, file)
    expect(page.locator("#preview")).to_be_visible()


def map_to_result(page: Page, file: Path) -> None:
    """Choose a file, and wait until it is mapped."""
    upload(page, file)
    page.click("#begin")
    expect(page.locator("#result")).to_be_visible()


def drop(page: Page, file: Path) -> None:
    """Drop a file onto the place for it."""
    expect(page.locator("#start")).to_be_visible()
    dropped = page.evaluate_handle(
        """([name, bytes]) => {
          const sent = new DataTransfer();
          sent.items.add(new File([Uint8Array.from(bytes)], name));
          return sent;
        }""",
        [file.name, list(file.read_bytes())],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})


def download(page: Page, button: str) -> Download:
    """Press a button, and return what the browser was given."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    return waiting.value


def rows(page: Page) -> list[list[str]]:
    """Return what the table of cells shows."""
    return [row.locator("th, td").all_inner_texts() for row in page.locator("#cells tbody tr").all()]
