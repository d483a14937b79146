"""The bar that attributions show while they are computed."""

from __future__ import annotations

from typing import Any

import pytest

from totalanvi.training import TOTALANVI


@pytest.mark.parametrize(
    ("method", "options"),
    [("predict", {"ig_interpretability": True}), ("get_attributions", {})],
    ids=["predict", "get_attributions"],
)
def test_attributions_show_their_progress(
    trained: TOTALANVI, capsys: pytest.CaptureFixture[str], method: str, options: dict[str, Any]
) -> None:
    ask = getattr(trained, method)
    ask(indices=[0, 1, 2], **options, silent=True)
    assert capsys.readouterr().out == ""
    ask(indices=[0, 1, 2], **options)
    printed = capsys.readouterr().out
    assert "Attributions" in printed
    assert "100%" in printed


def test_predictions_alone_show_nothing(trained: TOTALANVI, capsys: pytest.CaptureFixture[str]) -> None:
    trained.predict(indices=[0, 1, 2])
    assert capsys.readouterr().out == ""
