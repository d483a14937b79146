"""The command line as a whole: the console script, its root, signals, and packages that are missing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anndata
import pytest
from tests.support.command_line import CONSOLE_SCRIPT, Run, hear_signals
from tests.support.files import listing
from tests.support.queries import assert_same_annotations, assert_three_parts, write_anndata
from tests.support.toy_bundle import toy_query

from totalanvi.serving.cli import COMMANDS, main
from totalanvi.serving.mapping.local import LocalReference

# The real console script


def test_the_console_script_maps(toy_folder: Path, query: Path, tmp_path: Path) -> None:
    command = [
        CONSOLE_SCRIPT,
        "map",
        toy_folder,
        query,
        "-o",
        tmp_path / "out.h5ad",
        "--samples",
        "3",
        "--batch-size",
        "5",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Cells:      23 mapped" in done.stdout
    assert "60 of 60 genes by var_names, which carry 100.0%" in done.stdout
    assert "6 of 6 proteins" in done.stdout
    assert f"Output:     {tmp_path / 'out.h5ad'}" in done.stdout
    assert done.stderr == ""
    expected = LocalReference(toy_folder).map(toy_query(23), samples=3)
    assert_same_annotations(anndata.read_h5ad(tmp_path / "out.h5ad"), expected)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert_three_parts(again.stderr, "Error: Expected an output that does not exist yet", "--overwrite")
    assert "Traceback" not in again.stderr
    assert again.stdout == ""


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "told to end (SIGTERM)"),
        (signal.SIGHUP, 129, "told to end (SIGHUP)"),
    ],
    ids=["int", "term", "hup"],
)
def test_a_signal_leaves_nothing_half_written(
    toy_folder: Path, tmp_path: Path, sent: signal.Signals, code: int, said: str
) -> None:
    query = write_anndata(toy_query(20_000), tmp_path / "query.h5ad")
    arguments = ["map", str(toy_folder), str(query), "-o", str(tmp_path / "out/"), "--batch-size", "1"]
    with subprocess.Popen(
        [CONSOLE_SCRIPT, *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob(".out.*/out/part-00003.parquet")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(sent)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(f"Error: {said}")
    assert "Traceback" not in errors
    assert listing(tmp_path) == ["query.h5ad"]


SWALLOWING = """
import signal, time, typer, weakref
from totalanvi.serving import cli

class Kept: ...

app = typer.Typer()

@app.command()
def swallow():
    kept = Kept()
    reference = weakref.ref(kept, lambda _: signal.raise_signal(signal.{sent}))
    del kept  # what its callback raises, Python throws away
    time.sleep(20)

cli.build_app = lambda name: app
cli.main([])
"""


@pytest.mark.parametrize(("sent", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "told to end")])
def test_a_signal_that_python_swallows_is_heard(sent: str, code: int, said: str) -> None:
    command = [sys.executable, "-c", SWALLOWING.format(sent=sent)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=hear_signals, timeout=60)
    assert done.returncode == code
    assert done.stderr.startswith(f"Error: {said}")
    assert "ignored" not in done.stderr


BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from totalanvi.serving.cli import main
for words in {commands}:
    try:
        main(words)
    except SystemExit as ended:
        if ended.code:
            raise
"""


def without(blocked: set[str], *commands: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Run the command line, once or more, in a process that cannot import some packages."""
    code = BLOCKED.format(blocked=blocked, commands=[[str(word) for word in words] for words in commands])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_mapping_needs_no_torch(toy_folder: Path, query: Path, tmp_path: Path) -> None:
    """Neither into a copy nor into a table, which one process makes: it takes long to begin."""
    words = "map", toy_folder, query, "-o"
    done = without(
        {"torch", "lightning", "bentoml", "httpx"}, (*words, tmp_path / "out.h5ad"), (*words, tmp_path / "out.parquet")
    )
    assert done.returncode == 0, done.stderr
    assert listing(tmp_path) == ["out.h5ad", "out.parquet", "query.h5ad"]


@pytest.mark.parametrize(
    ("package", "output", "extra"),
    [
        ("onnxruntime", ["out.h5ad"], "serve"),
        ("safetensors", ["out.h5ad"], "serve"),
        ("numba", ["out.h5ad"], "serve"),
        ("ray", ["scored", "--engine", "ray"], "ray"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    toy_folder: Path, query: Path, tmp_path: Path, package: str, output: list[str], extra: str
) -> None:
    name, *options = output
    done = without({package}, ("map", toy_folder, query, "-o", tmp_path / name, *options))
    assert done.returncode == 2
    assert_three_parts(done.stderr, f"the package {package!r}", f"pip install 'totalanvi[{extra}]'")
    assert "Traceback" not in done.stderr
    assert listing(tmp_path) == ["query.h5ad"]


def test_help_and_version_import_nothing_heavy() -> None:
    done = without({"torch", "numpy", "pandas", "anndata", "pydantic", "rich"}, ["--help"], ["--version"])
    assert done.returncode == 0, done.stderr
    assert "Usage: totalanvi" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("totalanvi ")


# Root of the command line


def test_help_lists_the_commands_in_their_order(run: Run) -> None:
    code, printed, _ = run("--help")
    assert code == 0
    places = [printed.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert list(COMMANDS) == [
        *("simulate", "train", "import-scvi", "export", "map", "report", "push", "pull", "serve", "new-key", "info"),
        "demo",
    ]


def test_version(run: Run) -> None:
    code, printed, _ = run("--version")
    assert code == 0
    assert printed.startswith("totalanvi ")


def test_slips_exit_2_and_show_usage(run: Run) -> None:
    for arguments in (["nope"], ["map"], ["map", "a", "b"], ["map", "a", "b", "-o", "c", "--background", "some"]):
        code, _, errors = run(*arguments)
        assert code == 2
        assert "Usage: totalanvi" in errors
        assert "Error: " in errors


@pytest.mark.parametrize("command", ["map", "serve", "info"])
def test_each_command_has_help(run: Run, command: str) -> None:
    code, printed, _ = run(command, "--help")
    assert code == 0
    assert f"Usage: totalanvi {command}" in printed


def test_a_bug_keeps_its_traceback(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalReference, "info", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["info", str(toy_folder)])
