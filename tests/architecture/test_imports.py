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
