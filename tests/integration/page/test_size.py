"""A hundred thousand cells on the page: what makes them fluid. How fluid they are, `benchmarks/page.py` measures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import watched
from tests.support.page_steps import rows, served, upload, write
from tests.support.toy_bundle import toy_query

from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits

CELLS = 100_000


@pytest.fixture(scope="module")
def many(browser: Browser, reference: LocalReference, uploads: Path, home: Path) -> Iterator[Page]:
    """The page that shows them."""
    with served(reference, limits=Limits()) as url, watched(browser, url) as page:
        upload(page, write(toy_query(CELLS), home / "many.h5ad"))
        page.click("#begin")
        expect(page.locator("#progress-text")).to_have_text(re.compile(r"Mapping cells: [\d,]+ of 100,000"))
        assert 0 <= float(page.locator("#progress").get_attribute("value") or -1) <= 1
        expect(page.locator("#result")).to_be_visible()
        yield page


def test_of_all_cells_a_few_rows_are_in_the_document(many: Page) -> None:
    expect(many.locator("#cells-text")).to_have_text("100,000 cells of 100,000")
    assert many.evaluate("document.querySelectorAll('*').length") < 1000
    many.fill("#search", "cell99999")
    expect(many.locator("#cells-text")).to_have_text("1 cell of 100,000")
    assert rows(many)[0][0] == "cell99999"
    many.fill("#search", "")
    expect(many.locator("#cells-text")).to_have_text("100,000 cells of 100,000")
    many.focus("#cells")
    many.keyboard.press("End")
    expect(many.locator("#cells tbody tr").last).to_contain_text("cell99999")
    assert len(rows(many)) < 20


def test_all_of_them_are_sorted(many: Page) -> None:
    many.get_by_role("button", name="Novelty").click()
    many.get_by_role("button", name="Novelty").click()
    expect(many.locator("#cells th[aria-sort=descending]")).to_contain_text("Novelty")
    many.evaluate("document.getElementById('cells').scrollTop = 0")
    shown = [float(row[3]) for row in rows(many)]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == 1


def test_however_much_is_asked_for_between_two_frames_is_drawn_once(many: Page) -> None:
    drawn = many.evaluate(
        """async () => {
          const frame = () => new Promise(requestAnimationFrame);
          await frame();
          await frame();
          let drawn = 0;
          const seen = new PerformanceObserver((list) => (drawn += list.getEntriesByName("map").length));
          seen.observe({ entryTypes: ["measure"] });
          const map = document.getElementById("map");
          for (let i = 0; i < 50; i++) map.dispatchEvent(new KeyboardEvent("keydown", { key: "+" }));
          await frame();
          await frame();
          await new Promise((done) => setTimeout(done, 100));
          seen.disconnect();
          return drawn;
        }"""
    )
    assert drawn == 1
