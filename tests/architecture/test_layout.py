"""The shape of the tree: three roots of one namespace, small documented files, exact public surfaces."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("training", "export", "serving")
SOURCES = sorted(path for part in PARTS for path in (ROOT / part / "totalanvi").rglob("*.py"))
LONGEST = 400

PUBLIC = {
    "totalanvi.training": {
        "TOTALANVI",
        "TOTALVI",
        "ArgumentError",
        "Augmentation",
        "CheckpointError",
        "CountsError",
        "DivergenceError",
        "MissingKeyError",
        "ModelConfig",
        "ProcessesError",
        "RegistrationError",
        "TrainingConfig",
        "TrainingError",
        "import_scvi",
        "simulate",
    },
    "totalanvi.export": {"ExportError", "export_bundle"},
    "totalanvi.serving": {
        "AccessError",
        "AlignmentError",
        "BundleError",
        "BusyError",
        "CountsError",
        "DeadlineError",
        "DeviceError",
        "EndpointError",
        "FaultError",
        "HubError",
        "MediaTypeError",
        "NotReadyError",
        "OutOfTimeError",
        "OutputError",
        "QueryError",
        "QuotaError",
        "ReferenceInfo",
        "ServingError",
        "SettingsError",
        "StaleFeaturesError",
        "TooLargeError",
        "UnknownReferenceError",
        "UnreachableError",
        "load_reference",
    },
}
WRITTEN = {".h5ad", ".h5mu", ".npz", ".onnx", ".parquet", ".safetensors"}
MACHINERY = {"TYPE_CHECKING", "annotations", "import_module"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("part", PARTS)
def test_the_namespace_has_no_init(part: str) -> None:
    assert (ROOT / part / "totalanvi" / part / "__init__.py").is_file()
    assert not (ROOT / part / "totalanvi" / "__init__.py").exists(), "it would hide the other two roots"
    assert not (ROOT / part / "__init__.py").exists()


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_surface_is_exact(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    assert len(module.__all__) == len(set(module.__all__))
    for public in module.__all__:
        assert getattr(module, public) is not None
    loose = {key for key, value in vars(module).items() if not key.startswith("_") and not inspect.ismodule(value)}
    assert loose - MACHINERY <= PUBLIC[package]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST, "split it by topic"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_public_name_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it is for"
    undocumented = [
        f"{path.name}:{node.lineno} {node.name}"
        for owner in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
        for node in owner.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not getattr(owner, "name", "").startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not undocumented


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_is_named_for_its_topic(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Files that git keeps."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / entry for entry in listed.stdout.decode().split("\0") if entry]
    return [path for path in files if path.is_file()]


def test_no_file_names_the_machine_it_was_written_on(tracked: list[Path]) -> None:
    here = f"{ROOT}/".encode()
    if len(ROOT.parts) < 3:
        pytest.skip("the checkout's path is too short to search for")
    assert [name(path) for path in tracked if here in path.read_bytes()] == []


def test_what_runs_write_is_not_kept(tracked: list[Path]) -> None:
    outputs = [path for path in tracked if path.suffix in WRITTEN and not path.is_relative_to(ROOT / "tests")]
    assert [name(path) for path in outputs] == []
