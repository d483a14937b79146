"""The page without a mouse, on a phone, and to those who hear it: judged by axe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import DESKTOP, PHONE, watched
from tests.support.colours import SIGHTS, luminance, seen_by
from tests.support.command_line import exit_code
from tests.support.page_steps import choose, rows

from totalanvi.training.simulation.simulate import simulate_query


def test_the_keyboard_is_enough(page: Page, query: Path) -> None:
    expect(page.locator("#start")).to_be_visible()
    # Keys may overtake the order to catch the chooser; where the focus is, is asked after it, and answered in turn.
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        expect(page.locator("#file")).to_be_focused()
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


def test_a_ramp_gets_darker_for_every_colour_vision(page: Page) -> None:
    colours = page.evaluate(
        "async () => { const { rampColour } = await import('/page/colouring.js'); "
        "return Array.from({ length: 21 }, (_, step) => rampColour(step / 20)); }"
    )
    for kind in SIGHTS:
        lightness = [seen_by(colour, kind)[0] for colour in colours]
        # A difference of 1 is about what can be seen.
        assert max(np.diff(lightness)) < -1, kind
    assert 1.05 / (luminance(colours[0]) + 0.05) > 3


def judge(page: Page, state: str) -> None:
    """Ask axe whether everybody can use what is seen, and that it is no wider than the screen."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    faults = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found.response["violations"]]
    assert faults == [], state
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_state_is_accessible_and_fits(
    browser: Browser, url: str, query: Path, size: dict[str, int], tmp_path: Path
) -> None:
    # axe puts a script of its own into the page, which the page's policy would refuse.
    with watched(browser, url, size, bypass_csp=True) as page:
        expect(page.locator("#start")).to_be_visible()
        page.locator("#places summary").click()
        judge(page, "empty")
        (tmp_path / "notes.h5ad").write_text("These are no cells.")
        choose(page, tmp_path / "notes.h5ad")
        expect(page.get_by_role("alert")).to_be_visible()
        judge(page, "error")
        choose(page, query)
        expect(page.locator("#working")).to_be_visible()
        judge(page, "waiting")
        expect(page.locator("#preview")).to_be_visible()
        judge(page, "preview")
        page.click("#begin")
        expect(page.locator("#result")).to_be_visible()
        judge(page, "result")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_reports_are_accessible_and_fit(
    browser: Browser, checkpoint: Path, bundle: Path, size: dict[str, int], tmp_path: Path
) -> None:
    query, report = tmp_path / "query.h5mu", tmp_path / "report.html"
    simulate_query(80, n_genes=160, n_proteins=12, n_labels=4, n_batches=2, seed=1).write(query)
    assert exit_code("map", bundle, query, "-o", tmp_path / "out.h5mu", "--report", report) == 0
    for path in (report, bundle / "report.html", checkpoint / "report.html"):
        # That it asks nobody for anything is asserted in the end.
        with watched(browser, path.as_uri(), size, bypass_csp=True) as page:
            judge(page, str(path))
