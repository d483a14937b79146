"""The page without a mouse, on a phone, and to those who hear it: judged by axe."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import DESKTOP, PHONE, watched
from tests.support.page_steps import choose, rows


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
