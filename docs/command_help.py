"""The help of every command as Markdown, as the command line itself would say it."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from totalanvi.serving.cli import COMMANDS, build_app

__all__ = ["write_command_help"]


def write_command_help(folder: Path) -> None:
    """Write a file for each command into a folder.

    Parameters
    ----------
    folder
        Where to: ``COMMAND.md`` for each.
    """
    for name in COMMANDS:
        group = typer.main.get_command(build_app(name))
        with group.make_context("totalanvi", [name]) as root:
            command = group.commands[name]  # type: ignore[attr-defined]
            text = get_docs_for_click(obj=command, ctx=root, name=name, call_prefix="totalanvi")
        # The pages that include this have headings of their own.
        (folder / f"{name}.md").write_text(text.partition("\n")[2].strip() + "\n", encoding="utf-8")
