"""The command line, run in the tests' own process, and as it is installed."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from totalanvi.serving.cli import build_app, main

__all__ = ["CONSOLE_SCRIPT", "QuietRun", "Run", "exit_code", "hear_signals", "parse", "quiet_runner", "runner"]

CONSOLE_SCRIPT = Path(sys.executable).with_name("totalanvi")
"""The command, as installed beside the interpreter that runs the tests."""

Run = Callable[..., tuple[int, str, str]]
"""Words of a command → exit code, standard output, standard error."""

QuietRun = Callable[..., tuple[int, str]]
"""Words of a command → exit code and standard error; standard output stays empty."""


def exit_code(*arguments: object) -> int:
    """Run a command, wherever it prints to."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def parse(command: str) -> str:
    """Let the command line read a command, as a text shows it, without running it; returns the sub-command's name."""
    _, name, *arguments = shlex.split(command, comments=True)
    app = typer.main.get_command(build_app(name))
    with app.make_context("totalanvi", [name]) as root:
        app.commands[name].make_context(name, arguments, parent=root)  # type: ignore[attr-defined]
    return name


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command."""

    def act(*arguments: object) -> tuple[int, str, str]:
        code = exit_code(*arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return act


def quiet_runner(capsys: pytest.CaptureFixture[str]) -> QuietRun:
    """Return what runs a command that prints no results."""
    run = runner(capsys)

    def act(*arguments: object) -> tuple[int, str]:
        code, printed, said = run(*arguments)
        assert printed == ""
        return code, said

    return act


def hear_signals() -> None:
    """Undo, in a process about to start, what a shell and nohup do to what runs behind them: it hears too little."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_DFL)
