"""Who may import whom, and what no source may do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("training", "export", "serving")
SOURCES = sorted(path for part in PARTS for path in (ROOT / part / "totalanvi").rglob("*.py"))

# What each module has to leave unloaded: a server without torch, a client without a server, help without anything.
LIGHT = {
    "totalanvi.serving": ("torch", "onnxruntime", "bentoml"),
    "totalanvi.serving.endpoint.service": ("torch", "lightning", "totalanvi.training", "totalanvi.export"),
    "totalanvi.serving.client": (
        "torch",
        "onnxruntime",
        "bentoml",
        "numba",
        "totalanvi.training",
        "totalanvi.export",
    ),
    "totalanvi.serving.cli": ("torch", "onnxruntime", "bentoml", "numba", "anndata"),
    "totalanvi.training": ("torch", "lightning", "anndata"),
    "totalanvi.training.cli": ("torch", "lightning", "anndata"),
    "totalanvi.training.models.totalanvi": ("onnxruntime", "bentoml", "totalanvi.serving", "totalanvi.export"),
    "totalanvi.export": ("torch", "onnx", "onnxruntime", "bentoml"),
    "totalanvi.export.cli": ("torch", "onnx", "onnxruntime", "bentoml"),
}

# Formats that run code when they are read.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python(code: str) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(str(ROOT / part) for part in PARTS)
    environment = {**os.environ, "PYTHONPATH": roots}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_arrows_hold() -> None:
    checked = python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("module", LIGHT)
def test_an_import_stays_light(module: str) -> None:
    unwanted = LIGHT[module]
    loaded = python(f"import sys, {module}; print(*[name for name in {unwanted!r} if name in sys.modules])")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train nothing.h5ad --labels type -o new", "found nothing at 'nothing.h5ad'"),
        ("train cells.csv --labels type -o new", "found that 'cells.csv' is none"),
        ("train folder --labels type -o new", "found that 'folder' is a folder of neither kind"),
        ("train cells.csv --labels type -o folder", "Expected a folder that does not exist yet, found folder"),
        ("import-scvi nothing -o new", "Expected a folder that scvi-tools saved at nothing, found nothing"),
        ("import-scvi save -o new --data nothing.h5ad", "found nothing at 'nothing.h5ad'"),
        ("import-scvi save -o folder", "Expected a folder that does not exist yet, found folder"),
        ("export nothing -o new", "Expected a checkpoint at nothing, found no such folder"),
        ("export folder -o new", "Expected a checkpoint at folder, found a folder without config.json"),
        ("export cells.csv -o new", "Expected a checkpoint at cells.csv, found a file; give the folder"),
        ("export cells.h5mu -o new", "found a file of cells; train on it first (totalanvi train cells.h5mu --labels"),
        ("export bundle -o new", "Expected a checkpoint at bundle, found a bundle, which is exported already"),
        ("export made -o new --parents no.csv", "no.csv: expected a CSV file with the columns label,parent, found no"),
        ("export made -o new --parents cells.csv", "cells.csv: expected a CSV file with the columns label,parent"),
        ("export made -o new --parents folder", "found one that cannot be read (Is a directory); check it"),
        ("export made -o new --sign no.pem", "no.pem: expected a file of keys, found that it cannot be read"),
        ("export made -o new --precision int4", "float16, bfloat16, int8, found 'int4'; choose one of them.\n"),
        ("export made -o new --precision FP16", "float16, bfloat16, int8, found 'FP16'; did you mean float16?\n"),
        ("export made -o new --precision bf16", "float16, bfloat16, int8, found 'bf16'; did you mean bfloat16?\n"),
        ("export nothing -o folder", "folder: expected a folder that does not exist"),
        ("export nothing -o cells.csv", "cells.csv: expected the name of a folder to make, found a file"),
        ("export nothing -o cells.csv/new", "which is a file; choose another"),
        ("export nothing -o dangling", "dangling: expected the name of a folder to make, found a link"),
        ("demo -o cells.csv", "Expected a folder for the demo at cells.csv, found a file"),
        ("demo -o cells.csv/new", "which is a file; choose another"),
        ("demo -o dangling", "found a link that leads nowhere"),
        # As soon as the folders above were made, there would be something to lose.
        ("train cells.csv --labels type -o nothing/../folder", "found 'nothing' before '..', which is not there"),
        ("export nothing -o nothing/../folder", "found 'nothing' before '..', which is not there"),
        ("demo -o nothing/../folder", "found 'nothing' before '..', which is not there"),
        ("simulate nothing/../cells.h5mu", "found 'nothing' before '..', which is not there"),
    ],
)
def test_a_slip_in_a_name_is_told_before_what_is_heavy_is_imported(tmp_path: Path, command: str, message: str) -> None:
    for folder in ("folder", "save", "made", "bundle"):
        (tmp_path / folder).mkdir()
    (tmp_path / "made" / "config.json").write_text('{"format": "totalanvi checkpoint"}')
    for file in ("bundle/manifest.json", "cells.h5mu"):
        (tmp_path / file).touch()
    (tmp_path / "save" / "model.pt").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "cells.csv").write_text("cell,gene\n")
    told = python(
        f"import os, sys; os.chdir({str(tmp_path)!r})\n"
        "from totalanvi.serving.cli import main\n"
        f"try: main({command.split()!r})\n"
        "except SystemExit as end: print(end.code, *{'torch', 'anndata', 'onnx', 'onnxruntime'} & {*sys.modules})"
    )
    assert message in told.stderr
    assert told.stdout.split() == ["2"], told.stderr
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "nothing").exists()


def unsafe_uses(tree: ast.Module) -> list[str]:
    """Return what a source does that would run code hidden in a file it reads."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names if alias.name.split(".")[0] in UNSAFE_MODULES]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNSAFE_MODULES:
                found.append(module)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=keywords):
                if not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in keywords):
                    found.append("torch.load without weights_only=True")
            case ast.Call(func=ast.Name(id="eval" | "exec" as called)):
                found.append(called)
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                found.append("allow_pickle=True")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_read_can_run_code(path: Path) -> None:
    assert unsafe_uses(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_the_check_itself_sees(source: str) -> None:
    assert unsafe_uses(ast.parse(source))
