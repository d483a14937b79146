"""The files of the page, and the headers that keep it to itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from totalanvi.pages.palette import BACKGROUND, GRID, INK, UNKNOWN_STYLE, style_of
from totalanvi.pages.style import STYLE

__all__ = ["PAGE_PATHS", "page_routes"]

_STYLES = 42
"""Colours times shapes; further labels begin anew."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    # Nothing but its own files, no code or style in the document, no text made into elements.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _files() -> dict[str, tuple[bytes, str]]:
    """Return content and type of each file, by its path: what is not here cannot be asked for."""
    files = {
        # The colours and the type of reports.
        "/page/palette.js": _palette().encode(),
        "/page/report.css": STYLE.encode(),
    }
    for file in (resources.files(__package__) / "static").iterdir():
        files["/" if file.name == "index.html" else f"/page/{file.name}"] = file.read_bytes()
    suffixes = {path: ".html" if path == "/" else path[path.rindex(".") :] for path in files}
    return {path: (content, _TYPES[suffixes[path]]) for path, content in files.items()}


def _palette() -> str:
    values = {
        "STYLES": [asdict(style_of(rank)) for rank in range(_STYLES)],
        "UNKNOWN": asdict(UNKNOWN_STYLE),
        "BACKGROUND": BACKGROUND,
        "GRID": GRID,
        "INK": INK,
    }
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in values.items())


_FILES = _files()

PAGE_PATHS = frozenset(_FILES)
"""Answered to whoever may reach the endpoint, with a key or without: they are the same for everybody."""


def page_routes() -> list[Route]:
    """Return a route for each file of the page, itself at ``/``."""
    return [Route(path, _send, methods=["GET"]) for path in sorted(_FILES)]


async def _send(request: Request) -> Response:
    content, media_type = _FILES[request.url.path]
    return Response(content, headers=_HEADERS, media_type=media_type)
