"""The files of the page, and the headers that keep it to itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


_STATIC = resources.files(__package__) / "static"
_NAMES = {"/" if file.name == "index.html" else f"/page/{file.name}": file.name for file in _STATIC.iterdir()}
_PALETTE, _REPORT = "/page/palette.js", "/page/report.css"

PAGE_PATHS = frozenset({*_NAMES, _PALETTE, _REPORT})
"""Answered to whoever may reach the endpoint, with a key or without: they are the same for everybody."""


@cache
def _content(path: str) -> bytes:
    """Return a file of the page, by its path: what is not here cannot be asked for."""
    # The process that supervises the endpoint needs the paths alone.
    from totalanvi.pages import palette
    from totalanvi.pages.style import STYLE

    if path == _REPORT:
        return STYLE.encode()
    if path != _PALETTE:
        return (_STATIC / _NAMES[path]).read_bytes()
    values = {
        "STYLES": [asdict(palette.style_of(rank)) for rank in range(_STYLES)],
        "UNKNOWN": asdict(palette.UNKNOWN_STYLE),
        **{name: getattr(palette, name) for name in ("BACKGROUND", "GRID", "INK")},
    }
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in values.items()).encode()


def page_routes() -> list[Route]:
    """Return a route for each file of the page, itself at ``/``."""
    return [Route(path, _send, methods=["GET"], include_in_schema=False) for path in sorted(PAGE_PATHS)]


async def _send(request: Request) -> Response:
    path = request.url.path
    suffix = ".html" if path == "/" else path[path.rindex(".") :]
    return Response(_content(path), headers=_HEADERS, media_type=_TYPES[suffix])
