"""A real browser without a window, where one is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserType, ConsoleMessage, Page, sync_playwright

__all__ = ["DESKTOP", "PHONE", "SECONDS", "running_browser", "watched"]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
SECONDS = 60
"""That anything may take before it is given up."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Chromium: Debian's, or the one that Playwright has installed; skips where there is neither."""
    with sync_playwright() as playwright:
        executable = _chromium(playwright.chromium)
        if executable is None:
            pytest.skip("No Chromium is installed; `make browser` installs one.")
        # The sandbox is no use to root, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _chromium(own: BrowserType) -> str | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or (own.executable_path if Path(own.executable_path).exists() else None)


@contextmanager
def watched(browser: Browser, url: str, size: dict[str, int] = DESKTOP, bypass_csp: bool = False) -> Iterator[Page]:
    """Open a page; that nothing went wrong in it, and that it asked nobody else, is asserted in the end."""
    context = browser.new_context(viewport=size, accept_downloads=True, bypass_csp=bypass_csp)
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    said: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.extend(_fault_of(message)))
    page.on("console", lambda message: said.append(message.text))
    try:
        page.goto(url)
        yield page
        assert wrong == []
        assert [address for address in asked if not address.startswith((url, f"blob:{url}", "data:"))] == []
    except Exception as error:
        error.add_note(f"The page said: {said}")
        raise
    finally:
        context.close()


def _fault_of(message: ConsoleMessage) -> list[str]:
    # A refusal is logged as well, by its status, and so is a lost connection; anything else is a fault, or an offence
    # against the page's policy.
    told = "the server responded" in message.text or "net::ERR_INTERNET_DISCONNECTED" in message.text
    return [message.text] if message.type == "error" and not told else []
