"""The command line, run in the tests' own process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from totalanvi.serving.cli import main

__all__ = ["QuietRun", "Run", "quiet_runner", "runner"]

Run = Callable[..., tuple[int, str, str]]
"""Words of a command → exit code, standard output, standard error."""

QuietRun = Callable[..., tuple[int, str]]
"""Words of a command → exit code and standard error; standard output stays empty."""


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command."""

    def act(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return act


def quiet_runner(capsys: pytest.CaptureFixture[str]) -> QuietRun:
    """Return what runs a command that prints no results."""
    run = runner(capsys)

    def act(*arguments: object) -> tuple[int, str]:
        code, printed, said = run(*arguments)
        assert printed == ""
        return code, said

    return act
