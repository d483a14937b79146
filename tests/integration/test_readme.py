"""The README's commands and code, as written: only the files are smaller, and the runs shorter."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import parse

from totalanvi.serving.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = re.findall(r"^    (totalanvi .*)$", README, flags=re.MULTILINE)
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SMALL = ("--cells", "60", "--genes", "40", "--proteins", "4", "--labels", "2")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str) -> None:
    parse(command)


def test_every_command_is_shown() -> None:
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown == {"simulate", "train", "import-scvi", "export", "map", "report", "push", "pull", "serve", "new-key"}


def test_a_model_is_trained_asked_saved_and_adapted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    simulate = next(command for command in COMMANDS if " simulate " in command)
    with pytest.raises(SystemExit, match="0"):
        main([*shlex.split(simulate)[1:], *SMALL])
    training, surgery, serving = BLOCKS
    assert "load_reference" in serving
    names: dict[str, Any] = {}
    exec(_brief(training), names)
    assert names["probabilities"].shape == (60, 2)
    assert len(names["markers"]) == 44
    assert len(names["labels"]) == 10
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    exec(_brief(surgery), names)
    assert set(names["query"].obs["cell_type"]) <= set(names["mdata"].obs["cell_type"])


def _brief(block: str) -> str:
    trained = re.sub(r"model\.train\(.*\)", "model.train(max_epochs=1)", block)
    assert trained.count("model.train(max_epochs=1)") == 1
    return trained.replace("range(200)", "range(10)")
