"""The page to those who need a key, and to names that would be markup."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from playwright.sync_api import Browser, expect
from tests.support.browser import watched
from tests.support.page_steps import download, map_to_result, served, write
from tests.support.toy_bundle import sign, toy_query, write_toy_bundle

from totalanvi.serving.endpoint.access.keys import Keys, fixed_keys, parse_keys
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.mapping.local import LocalReference

SECRET = "a key of the page"
MARKUP = "<img src=/page/none.svg onerror=alert(1)>"


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


def test_nothing_that_is_named_becomes_markup(browser: Browser, uploads: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(write_toy_bundle(tmp_path / "toy"), tmp_path / "hostile")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["labels"][0] = manifest["proteins"][0] = MARKUP
    manifest["parents"][MARKUP] = manifest["parents"].pop("B cell")
    manifest["labels"][1] = "CD4|T"
    manifest["parents"]["CD4|T"] = manifest["parents"].pop("CD4 T")
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
        expect(page.locator("#cells")).to_contain_text("CD4|T")
        expect(page.locator("#cells")).not_to_contain_text("CD4, T")
        page.select_option("#colour", "protein 0")
        expect(page.locator("#legend")).to_contain_text(MARKUP)
        assert page.locator("img").count() == 0
        assert page.locator("[onerror]").count() == 0
