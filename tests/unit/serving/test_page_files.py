"""The page's files: who is given them, and what they may do in a browser. See tests/integration/page, too."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.server import app_in_thread, endpoint_of

from totalanvi.pages.palette import COLOURS, style_of
from totalanvi.serving.endpoint.access.headers import SafeHeaders
from totalanvi.serving.endpoint.access.keys import Keys, fixed_keys, parse_keys
from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.page.routes import PAGE_PATHS


@pytest.fixture(scope="module")
def web(toy_folder: Path) -> Iterator[httpx.Client]:
    """An endpoint that asks for a key."""
    keys = Keys(parse_keys(f"lab:{hashlib.sha256(b'one').hexdigest()}", "here"))
    app = create_app(endpoint_of(toy_folder))
    with app_in_thread(SafeHeaders(Access(app, AccessSettings(fixed_keys(keys)), pages=PAGE_PATHS))) as client:
        yield client


def test_the_page_is_read_without_a_key_and_nothing_else_is(web: httpx.Client) -> None:
    for path in PAGE_PATHS:
        assert web.get(path).status_code == 200
        assert web.post(path).status_code == 401
    for path in ("/page", "/page/", "/page/none.js", "/page/%2e%2e/v1/info", "/index.html", "/v1/info"):
        assert web.get(path).status_code == 401, path


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(web: httpx.Client) -> None:
    answer = web.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not any(word in answer.headers["content-security-policy"] for word in ("unsafe", "http", "*", "data:"))
    assert "access-control-allow-origin" not in answer.headers
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?:", answer.text)

    for path in PAGE_PATHS - {"/"}:
        text = web.get(path).text
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", text), path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path


def test_every_file_that_is_named_is_there(web: httpx.Client) -> None:
    named = set(re.findall(r'(?:href|src)="(/[^"]*)"', web.get("/").text))
    for path in PAGE_PATHS:
        if path.endswith(".js"):
            named |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]*)"', web.get(path).text)}
            assert web.get(path).headers["content-type"] == "text/javascript; charset=utf-8"
    assert named == PAGE_PATHS - {"/"}


def test_labels_look_as_they_do_in_reports(web: httpx.Client) -> None:
    palette = web.get("/page/palette.js").text
    for rank, colour in enumerate(COLOURS):
        assert f'{{"colour": "{colour}", "shape": "{style_of(rank).shape}"}}' in palette
