"""What goes wrong is told on the page, and one goes on from there."""

from __future__ import annotations

import shlex
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import SECONDS, watched
from tests.support.page_steps import MAX_BYTES, choose, download, map_to_result, upload, write
from tests.support.server import app_in_thread, endpoint_of
from tests.support.toy_bundle import toy_query
from tests.support.uploads import left, wait_until_empty

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.mapping.local import LocalReference


def test_errors_are_told_as_the_server_tells_them(page: Page, url: str, tmp_path: Path) -> None:
    normalised, mouse = toy_query(5), toy_query(5)
    normalised.X = normalised.X * 0.37
    mouse.var_names = [f"Gene{place:03d}" for place in range(mouse.n_vars)]
    mouse.var["gene_ids"] = [f"ENSMUSG{place:011d}" for place in range(mouse.n_vars)]
    (tmp_path / "notes.h5ad").write_text("These are no cells.")
    files = (
        tmp_path / "notes.h5ad",
        write(normalised, tmp_path / "normalised.h5ad"),
        write(mouse, tmp_path / "mouse.h5ad"),
    )
    for file in files:
        choose(page, file)
        said = httpx.post(f"{url}/v1/uploads", content=file.read_bytes(), timeout=60).json()["error"]["message"]
        expect(page.get_by_role("alert")).to_have_text(said)
        expect(page.locator("#start")).to_be_visible()
        assert said.startswith("Expected ")
        assert "query.h5" not in said


def test_an_error_while_mapping_leads_back(page: Page, tmp_path: Path) -> None:
    late = toy_query(600)
    late.X = late.X.astype(np.float32)
    late.X.data[-1] = 0.5
    upload(page, write(late, tmp_path / "late.h5ad"))
    page.click("#begin")
    expect(page.get_by_role("alert")).to_contain_text("raw counts")
    expect(page.locator("#preview")).to_be_visible()


def test_a_lost_connection_is_told_and_mended(page: Page, query: Path) -> None:
    expect(page.locator("#start")).to_be_visible()
    page.context.set_offline(True)
    choose(page, query)
    expect(page.get_by_role("alert")).to_contain_text("found the connection closed; send it again.")
    page.context.set_offline(False)
    map_to_result(page, query)
    page.context.set_offline(True)
    for button in ("Table (.csv)", "Report (.html)"):
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("The endpoint cannot be reached")
    page.select_option("#colour", "protein 0")
    expect(page.get_by_role("alert")).to_contain_text("The endpoint cannot be reached")
    page.context.set_offline(False)
    download(page, "Table (.csv)")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_file_that_is_gone_is_told(page: Page, query: Path) -> None:
    with page.expect_request("**/map?*") as asked:
        map_to_result(page, query)
    httpx.delete(asked.value.url.partition("/map")[0])
    page.get_by_role("button", name="Annotated file", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("a file is removed when nobody asks for it for")
    expect(page.locator("#result")).to_be_visible()


def test_a_file_that_is_too_large_is_for_the_client(page: Page, url: str, tmp_path: Path) -> None:
    name = "it's $(touch x) `y`.h5mu"
    (tmp_path / name).write_bytes(bytes(MAX_BYTES + 1))

    choose(page, tmp_path / name)

    command = page.get_by_role("alert").locator("code").inner_text()
    assert shlex.split(command) == ["totalanvi", "map", url, name, "-o", "annotated.h5mu"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("The command is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == command
    quoted = page.evaluate(
        "async (names) => (await import('/page/command.js')).mapCommand && Promise.all(names.map(async (name) => "
        "(await import('/page/command.js')).mapCommand('http://here', name)))",
        ["-rf.h5ad", "a\nb.h5ad", "a\u202eb.h5ad", "plain-1_2.h5ad"],
    )
    assert [shlex.split(one)[3] for one in quoted] == ["./-rf.h5ad", "FILE", "FILE", "plain-1_2.h5ad"]


def test_a_page_waits_for_an_endpoint_that_is_loading(
    browser: Browser, reference: LocalReference, uploads: Path
) -> None:
    loading = threading.Event()

    def opened(_: Path) -> LocalReference:
        assert loading.wait(SECONDS)
        return reference

    app = create_app(endpoint_of(reference.bundle.path, opened=opened))
    with app_in_thread(app) as web, watched(browser, str(web.base_url).rstrip("/")) as page:
        expect(page.get_by_role("alert")).to_contain_text("still loading")
        loading.set()
        expect(page.locator("#start")).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()


def test_a_page_that_is_left_takes_its_file_along(page: Page, query: Path, uploads: Path) -> None:
    upload(page, query)
    assert left(uploads)
    page.goto("about:blank")
    wait_until_empty(uploads)


def test_work_that_is_cancelled_ends(page: Page, uploads: Path, tmp_path: Path) -> None:
    upload(page, write(toy_query(3000), tmp_path / "many.h5ad"))
    page.click("#begin")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#start")).to_be_visible()
    wait_until_empty(uploads)
    time.sleep(0.5)
    expect(page.get_by_role("alert")).to_be_hidden()
