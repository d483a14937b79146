"""The help of every command as Markdown, as the command line itself would say it."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from totalanvi.serving.cli import COMMANDS, build_app

__all__ = ["write_command_help"]


def write_command_help(folder: Path) -> None:
    """Write a file for each command into a folder, which is made where it does not exist.

    Parameters
    ----------
    folder
        Where to; ``COMMAND.md`` in it is left alone when it says the same already, so that pages that include it are
        not built anew.
    """
    folder.mkdir(exist_ok=True)
    for name in COMMANDS:
        group = typer.main.get_command(build_app(name))
        with group.make_context("totalanvi", [name]) as root:
            command = group.commands[name]  # type: ignore[attr-defined]
            text = get_docs_for_click(obj=command, ctx=root, name=name, call_prefix="totalanvi")
        # The pages that include this have headings of their own.
        _write_new(folder / f"{name}.md", text.partition("\n")[2].strip() + "\n")


def _write_new(file: Path, text: str) -> None:
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
