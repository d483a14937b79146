"""Examples in docstrings are what they say, but for those that need a user's data."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("training", "export", "serving")


def _module(path: Path, part: str) -> str:
    return ".".join(path.relative_to(ROOT / part).with_suffix("").parts).removesuffix(".__init__")


MODULES = [
    _module(path, part)
    for part in PARTS
    for path in sorted((ROOT / part / "totalanvi").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_examples_are_found() -> None:
    known = {"totalanvi.training", "totalanvi.training.models.totalvi", "totalanvi.serving.queries.source"}
    assert known <= set(MODULES)
