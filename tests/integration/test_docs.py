"""The documentation says what is so. That it builds without a warning, and its notebooks run, is for `make docs`."""

from __future__ import annotations

import ast
import importlib
import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import typer
from jsonschema import Draft7Validator
from tests.support.command_line import parse
from yaml import safe_load

from totalanvi.serving.cli import COMMANDS, build_app
from totalanvi.training import Augmentation, TrainingConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    page.relative_to(DOCS).as_posix(): page.read_text()
    for page in sorted(DOCS.rglob("*.md"))
    if not {"_build", "generated"} & set(page.parts)
}
PARTS = ("training", "export", "serving")


def blocks(language: str) -> list[tuple[str, str]]:
    """Pages and what stands in their fenced blocks of a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(page, block) for page, text in PAGES.items() for block in fence.findall(text)]


COMMAND_LINES = [
    pytest.param(line, id=f"{page}: {line}")
    for page, block in blocks("bash")
    for line in block.splitlines()
    if line.startswith("totalanvi ")
]


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_a_command_is_understood(command: str) -> None:
    assert parse(command) in COMMANDS


def test_an_option_that_a_text_names_is_a_commands() -> None:
    apps = {name: typer.main.get_command(build_app(name)).commands[name] for name in COMMANDS}  # type: ignore[attr-defined]
    known = {option for app in apps.values() for one in app.params for option in (*one.opts, *one.secondary_opts)}
    for page, text in (PAGES | {"README": (ROOT / "README.md").read_text()}).items():
        named = set(re.findall(r"`(--[a-z-]+)[^`]*`", text))
        assert named <= known, page


def test_who_reads_a_page_as_a_file_is_told_what_it_includes() -> None:
    """A comment to what builds the documentation, and a line with a link to a host of code."""
    for page, text in PAGES.items():
        for above, file in re.findall(r"((?:.*\n){2})```\{include\} (\S+)", text):
            line = above.splitlines()[0]
            assert line.startswith("% "), (page, file)
            if not file.startswith("generated/"):
                assert f"]({file}" in line, (page, file)
                assert (DOCS / file).is_file()


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_code_is_python(page: str, block: str) -> None:
    ast.parse(block, filename=page)


@pytest.mark.parametrize("part", PARTS)
def test_the_public_surface_is_in_the_reference(part: str) -> None:
    package = importlib.import_module(f"totalanvi.{part}")
    listed = set(re.findall(r"^   ([A-Za-z_]\w*)$", PAGES[f"api/{part}.md"], re.MULTILINE))
    assert listed == set(package.__all__)


def test_figures_of_the_model_are_the_defaults() -> None:
    text, hidden = PAGES["model/generative.md"], Augmentation()
    assert rf"\alpha = {TrainingConfig().classification_ratio:g} ." in text
    assert f"hidden in {hidden.no_panel:.0%} of the cells".replace("%", " %") in text
    assert f"a random part in {hidden.part_panel:.0%}".replace("%", " %") in text
    assert hidden.unknown_batch == 0.5
    assert "and the batch in half" in text


def test_the_citation_follows_its_format() -> None:
    folder = resources.files("check_jsonschema") / "builtin_schemas/vendor"
    schema = json.loads((folder / "citation-file-format.json").read_text())
    citation = safe_load((ROOT / "CITATION.cff").read_text())
    assert list(Draft7Validator(schema).iter_errors(citation)) == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    literature = (DOCS / "references.bib").read_text()
    assert all(reference["doi"] in literature for reference in citation["references"])
