"""The help of all commands as Markdown, as the command line itself would say it."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from totalanvi.serving.cli import COMMANDS, build_app

__all__ = ["write_command_help"]


def write_command_help(file: Path) -> None:
    """Write a section for each command.

    Parameters
    ----------
    file
        The Markdown file to write.
    """
    file.write_text("\n".join(_section(name) for name in COMMANDS), encoding="utf-8")


def _section(name: str) -> str:
    group = typer.main.get_command(build_app(name))
    with group.make_context("totalanvi", [name]) as root:
        command = group.commands[name]  # type: ignore[attr-defined]
        # typer carries a click of its own, whose context is not the one that it announces here.
        text = get_docs_for_click(obj=command, ctx=root, name=name, call_prefix="totalanvi")  # type: ignore[arg-type]
    # The page that includes this has a heading above.
    return f"## totalanvi {name}\n{text.partition(chr(10))[2].rstrip()}\n"
