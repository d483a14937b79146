"""The page for people without Python, in a real browser, from a file to its downloads."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import anndata
import httpx
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from tests.support.browser import DESKTOP, PHONE, SECONDS, running_browser, watched
from tests.support.pages import parse_page, references_elsewhere
from tests.support.server import app_in_thread, endpoint_of
from tests.support.toy_bundle import TOY, sign, toy_query, write_toy_bundle
from tests.support.uploads import left, wait_until_empty

pytest.importorskip("playwright", reason="Playwright is not installed; `make setup` installs it.")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Download, Page, expect

from totalanvi.serving.endpoint.access.headers import SafeHeaders
from totalanvi.serving.endpoint.access.keys import Keys, fixed_keys, parse_keys
from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.files.rooms import UPLOADS_VARIABLE
from totalanvi.serving.endpoint.page.routes import PAGE_PATHS
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits

MAX_BYTES = 2_000_000
SECRET = "a key of the page"
MARKUP = "<img src=/page/none.svg onerror=alert(1)>"


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


@contextmanager
def served(reference: LocalReference, settings: AccessSettings | None = None) -> Iterator[str]:
    limits = Limits(max_file_bytes=MAX_BYTES, max_cells=256)
    endpoint = endpoint_of(reference.bundle.path, limits, lambda _: reference)
    endpoint.references.look()
    app = SafeHeaders(Access(create_app(endpoint), settings or AccessSettings(), pages=PAGE_PATHS))
    with app_in_thread(app) as web:
        yield str(web.base_url).rstrip("/")


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


def write(query: AnnData, path: Path) -> Path:
    query.write_h5ad(path)
    return path


def choose(page: Page, file: Path) -> None:
    expect(page.locator("#start")).to_be_visible()
    page.set_input_files("#file", file)


def upload(page: Page, file: Path) -> None:
    choose(page, file)
    expect(page.locator("#preview")).to_be_visible()


def map_to_result(page: Page, file: Path) -> None:
    upload(page, file)
    page.click("#begin")
    expect(page.locator("#result")).to_be_visible()


def download(page: Page, button: str) -> Download:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    return waiting.value


def rows(page: Page) -> list[list[str]]:
    return [row.locator("th, td").all_inner_texts() for row in page.locator("#cells tbody tr").all()]


def test_from_a_file_to_its_downloads(
    page: Page, query: Path, uploads: Path, reference: LocalReference, tmp_path: Path
) -> None:
    expected = reference.map(query)
    labels = list(expected.obs["totalanvi_label"].astype(str))
    expect(page.locator("#about")).to_have_text("toy 1: 4 cell types, 6 proteins and 60 genes, from 1,000 cells.")

    upload(page, query)
    expect(page.locator("#preview")).to_contain_text("60 of the reference's 60 by var_names")
    expect(page.locator("#preview")).to_contain_text("600 cells")
    page.get_by_role("button", name="Map 600 cells").click()
    expect(page.locator("#summary")).to_contain_text("600 cells mapped to toy 1.")
    expect(page.locator("#result-title")).to_be_focused()

    counts = {
        row.locator(".named span").last.inner_text(): row.locator("td").nth(1).inner_text()
        for row in page.locator("#types tbody tr").all()
    }
    assert counts == {label: str(labels.count(label)) for label in set(labels)}

    page.fill("#search", "cell12")
    expect(page.locator("#cells-text")).to_have_text("11 cells of 600")
    assert [row[:2] for row in rows(page)] == [[f"cell{i}", labels[i]] for i in (12, *range(120, 130))]
    page.fill("#search", "")
    expect(page.locator("#cells-text")).to_have_text("600 cells of 600")
    page.get_by_role("button", name="Novelty").click()
    novelty = np.sort(expected.obs["totalanvi_novelty"].to_numpy())
    assert [row[3] for row in rows(page)] == [f"{value:.3f}" for value in novelty[: len(rows(page))]]
    expect(page.locator("#cells th[aria-sort=ascending]")).to_contain_text("Novelty")

    annotated = download(page, "Annotated file")
    assert annotated.suggested_filename == "my cells.annotated.h5ad"
    annotated.save_as(tmp_path / "annotated.h5ad")
    assert list(anndata.read_h5ad(tmp_path / "annotated.h5ad").obs["totalanvi_label"]) == labels
    for button, suffix, read in (
        ("Table (.parquet)", "parquet", pd.read_parquet),
        ("Table (.csv)", "csv", pd.read_csv),
    ):
        table = download(page, button)
        assert table.suggested_filename == f"my cells.annotated.{suffix}"
        table.save_as(tmp_path / f"table.{suffix}")
        assert list(read(tmp_path / f"table.{suffix}")["totalanvi_label"]) == labels
    picture = download(page, "Map (.png)")
    picture.save_as(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    charts = download(page, "Charts (.svg)")
    assert charts.suggested_filename == "my cells.charts.svg"
    charts.save_as(tmp_path / "charts.svg")
    drawn = [text.text for text in ElementTree.parse(tmp_path / "charts.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert drawn[0] == "my cells on toy 1"
    assert {"confidence", "novelty"} <= set(drawn)
    assert all(any(f"  {label}" in str(text) for text in drawn) for label in counts)
    report = download(page, "Report (.html)")
    assert report.suggested_filename == "my cells.report.html"
    report.save_as(tmp_path / "report.html")
    kept = parse_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert kept.all("h1")[0].text == "Mapped query: my cells.h5ad"
    assert references_elsewhere(kept) == []

    page.get_by_role("button", name="Choose another file").last.click()
    expect(page.locator("#file")).to_be_focused()
    wait_until_empty(uploads)


def colours(page: Page) -> set[str]:
    """Colours of the map that many pixels have."""
    return set(
        page.evaluate("""() => {
        const map = document.getElementById("map");
        const { data } = map.getContext("2d").getImageData(0, 0, map.width, map.height);
        const counts = {};
        for (let i = 0; i < data.length; i += 4) {
          const colour = "#" + [data[i], data[i + 1], data[i + 2]].map((n) => n.toString(16).padStart(2, "0")).join("");
          counts[colour] = (counts[colour] ?? 0) + 1;
        }
        return Object.keys(counts).filter((colour) => counts[colour] > 30);
    }""")
    )


def test_the_map_shows_labels_numbers_and_proteins(page: Page, query: Path) -> None:
    map_to_result(page, query)
    page.wait_for_timeout(500)
    behind, four = "#c4c8cc", {"#172ce5", "#a88a11", "#e5396d", "#5c93e5"}
    assert four | {behind} <= colours(page)

    page.locator("#legend button").first.click()
    page.wait_for_timeout(300)
    assert len(four & colours(page)) == 1
    expect(page.locator("#only option:checked")).not_to_have_text("all")
    page.locator("#legend button").first.click()

    for choice in ("confidence", "novelty", "protein 1"):
        page.select_option("#colour", choice)
        name = TOY.proteins[1] if choice.startswith("protein") else choice
        expect(page.locator("#map")).to_have_attribute("aria-label", re.compile(f"600 cells.*by {name}"))
        page.wait_for_timeout(300)
        assert not four & colours(page)
    page.get_by_role("button", name="Show CD19 on the map").click()
    expect(page.locator("#legend")).to_contain_text("CD19")

    # A cell that is chosen in the table is told beside the map.
    page.fill("#search", "cell7")
    page.get_by_role("button", name="cell7", exact=True).click()
    expect(page.locator("#map-text")).to_contain_text("cell7: ")
    expect(page.locator("#cells tr.chosen")).to_contain_text("cell7")


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


def test_an_error_while_mapping_leads_back(page: Page, tmp_path: Path) -> None:
    late = toy_query(600)
    late.X = late.X.astype(np.float32)
    late.X.data[-1] = 0.5
    upload(page, write(late, tmp_path / "late.h5ad"))
    page.click("#begin")
    expect(page.get_by_role("alert")).to_contain_text("raw counts")
    expect(page.locator("#preview")).to_be_visible()


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


def test_a_key_is_asked_for_and_stays_in_the_tab(
    browser: Browser, reference: LocalReference, uploads: Path, query: Path
) -> None:
    line = f"lab:{hashlib.sha256(SECRET.encode()).hexdigest()}"
    with (
        served(reference, AccessSettings(fixed_keys(Keys(parse_keys(line, "here"))))) as url,
        watched(browser, url) as page,
    ):
        expect(page.get_by_label("Key", exact=True)).to_be_focused()
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_label("Key", exact=True).fill("another key")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("alert")).to_contain_text("Expected a key of this endpoint, found another")
        page.get_by_label("Key", exact=True).fill(SECRET)
        page.keyboard.press("Enter")
        expect(page.locator("#start")).to_be_visible()
        map_to_result(page, query)
        download(page, "Table (.csv)")
        kept = page.context.storage_state()
        assert (kept["cookies"], kept["origins"]) == ([], [])
        assert SECRET not in page.content()


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


def test_one_of_several_references_is_chosen(
    browser: Browser, reference: LocalReference, uploads: Path, query: Path, tmp_path: Path
) -> None:
    other = write_toy_bundle(tmp_path / "other", name="other", version="2")
    endpoint = Endpoint(Limits(max_cells=256), References(Catalogue([reference.bundle.path, other])))
    endpoint.references.look()
    with app_in_thread(create_app(endpoint)) as web, watched(browser, str(web.base_url).rstrip("/")) as page:
        expect(page.locator("#about")).to_contain_text("toy 1:")
        page.get_by_label("Reference").select_option("other 2")
        expect(page.locator("#about")).to_contain_text("other 2:")
        map_to_result(page, query)
        expect(page.locator("#summary")).to_contain_text("600 cells mapped to other 2.")


def test_nothing_that_is_named_becomes_markup(browser: Browser, uploads: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(write_toy_bundle(tmp_path / "toy"), tmp_path / "hostile")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["labels"][0] = manifest["proteins"][0] = MARKUP
    manifest["parents"][MARKUP] = manifest["parents"].pop("B cell")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    query = toy_query(40)
    query.obs_names = [f"{MARKUP}{place}" for place in range(40)]
    query.obsm["protein_expression"].index = query.obs_names
    query.var_names = [*query.var_names[:-2], MARKUP, f"{MARKUP} 2"]
    with (
        served(LocalReference(sign(folder), provider="cpu")) as url,
        watched(browser, url) as page,
    ):
        page.evaluate(
            """async (bytes) => {
              const sent = new DataTransfer();
              sent.items.add(new File([Uint8Array.from(bytes)], "<img src=x onerror=alert(2)>.h5ad"));
              const file = document.getElementById("file");
              file.files = sent.files;
              file.dispatchEvent(new Event("change"));
            }""",
            list(write(query, tmp_path / "hostile.h5ad").read_bytes()),
        )
        expect(page.locator("#preview")).to_contain_text("<img src=x onerror=alert(2)>.h5ad")
        expect(page.locator("#preview-content")).to_contain_text(MARKUP)
        page.click("#begin")
        expect(page.locator("#result")).to_be_visible()
        expect(page.locator("#cells")).to_contain_text(f"{MARKUP}0")
        page.select_option("#colour", "protein 0")
        expect(page.locator("#legend")).to_contain_text(MARKUP)
        assert page.locator("img").count() == 0
        assert page.locator("[onerror]").count() == 0


def test_the_keyboard_is_enough(page: Page, query: Path) -> None:
    expect(page.locator("#start")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(query)
    expect(page.locator("#preview-title")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.locator("#begin")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#result-title")).to_be_focused()

    page.focus("#map")
    before = page.locator("#map").screenshot()
    page.keyboard.press("+")
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(300)
    assert page.locator("#map").screenshot() != before
    page.keyboard.press("0")
    page.wait_for_timeout(300)
    assert page.locator("#map").screenshot() == before

    page.focus("#cells")
    first = rows(page)[0]
    page.keyboard.press("End")
    expect(page.locator("#cells tbody")).to_contain_text("cell599")
    assert rows(page)[0] != first


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_state_is_accessible_and_fits(
    browser: Browser, url: str, query: Path, size: dict[str, int], tmp_path: Path
) -> None:
    # axe puts a script of its own into the page, which the page's policy would refuse.
    with watched(browser, url, size, bypass_csp=True) as page:

        def judge(state: str) -> None:
            found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
            faults = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found.response["violations"]]
            assert faults == [], state
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], state

        expect(page.locator("#start")).to_be_visible()
        judge("empty")
        (tmp_path / "notes.h5ad").write_text("These are no cells.")
        choose(page, tmp_path / "notes.h5ad")
        expect(page.get_by_role("alert")).to_be_visible()
        judge("error")
        choose(page, query)
        expect(page.locator("#working")).to_be_visible()
        judge("waiting")
        expect(page.locator("#preview")).to_be_visible()
        judge("preview")
        page.click("#begin")
        expect(page.locator("#result")).to_be_visible()
        judge("result")


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
