"""The sub-command ``new-key``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["new_key"]


def new_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; stands in logs.", show_default=False)],
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", metavar="FILE", help="Add it to this file, which is made if need be.", show_default=False
        ),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many requests a minute.", show_default=False)
    ] = None,
    cells_per_day: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many cells a day.", show_default=False)
    ] = None,
) -> None:
    """Make a key for an endpoint; it is printed once and kept nowhere."""
    import hashlib

    from totalanvi.serving.endpoint.access.keys import Key, new_secret, require_name

    require_name(name)
    secret = new_secret()
    line = Key(name, hashlib.sha256(secret.encode()).digest(), requests_per_minute, cells_per_day).line()
    if keys is None:
        typer.echo(f"Line for the endpoint's file of keys: {line}", err=True)
    else:
        _add(keys, name, line)
        typer.echo(f"Added {name!r} to {keys}; an endpoint that uses this file takes it at once.", err=True)
    typer.echo(secret)


def _add(path: Path, name: str, line: str) -> None:
    """Add a line to a file of keys."""
    from totalanvi.serving.endpoint.access.keys import parse_keys
    from totalanvi.serving.errors import SettingsError

    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if any(key.name == name for key in parse_keys(text, str(path))):
        raise SettingsError(
            f"{path}: expected no key named {name!r}, found one; remove its line to replace it, or choose another name."
        )
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n" if not text or text.endswith("\n") else f"\n{line}\n")
