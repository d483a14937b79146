"""Long work without steps says that it still goes on, and falls silent when it is done."""

from __future__ import annotations

import re
import time

import pytest

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
