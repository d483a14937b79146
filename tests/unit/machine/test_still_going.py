"""Long work without steps says that it still goes on, and falls silent when it is done."""

from __future__ import annotations

import re
import threading
import time

import pytest
from tests.support.terminal import at_a_terminal

from totalanvi.machine.still_going import still_going


def test_a_sign_of_life_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with still_going(lambda: "Counting sheep", every=0.01):
        while said.count("\n") < 3:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert re.fullmatch(r"(Counting sheep: \d+ s so far\n)+", said)
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with still_going(lambda: "Counting sheep", every=3600):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("unless_terminal", [False, True])
def test_a_terminal_may_have_something_better(monkeypatch: pytest.MonkeyPatch, unless_terminal: bool) -> None:
    asked = threading.Event()

    def doing() -> str:
        asked.set()
        return "Counting sheep"

    with at_a_terminal(monkeypatch) as shown, still_going(doing, every=0.001, unless_terminal=unless_terminal):
        asked.wait(0.1 if unless_terminal else 30)
    assert ("Counting sheep: " in shown.text) is not unless_terminal
