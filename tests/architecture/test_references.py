"""What docstrings and pages refer to by its full name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("training", "export", "serving")
MODULES = {
    ".".join(path.relative_to(ROOT / part).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for part in PARTS
    for path in (ROOT / part / "totalanvi").rglob("*.py")
}
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
IN_TEXT = re.compile(r"(?<!`)`(totalanvi(?:\.\w+)+)`(?!`)|^\.\. auto\w+:: (totalanvi(?:\.\w+)+)", re.MULTILINE)


def referred(text: str) -> set[str]:
    return {name for found in IN_TEXT.findall(text) for name in found if name}


def docstrings(source: str) -> str:
    """All texts that stand by themselves: docstrings, and what follows a name to say what it is."""
    statements = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr))
    return "\n".join(str(each.value) for each in statements if isinstance(each, ast.Constant))


def is_there(name: str) -> bool:
    if any(module == name or module.startswith(f"{name}.") for module in MODULES):
        return True
    # A name in a module, or in a class that a module has.
    home = max((module for module in MODULES if name.startswith(f"{module}.")), key=len, default=None)
    inner = name.removeprefix(f"{home}.").split(".")
    return home is not None and all(re.search(rf"\b{each}\b", MODULES[home]) for each in inner)


def test_what_is_referred_to_is_there() -> None:
    texts = {module: docstrings(source) for module, source in MODULES.items()} | PAGES
    names = {(where, name) for where, text in texts.items() for name in referred(text)}
    assert len(names) > 100
    assert sorted((where, name) for where, name in names if not is_there(name)) == []
