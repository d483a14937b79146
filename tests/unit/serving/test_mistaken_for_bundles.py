"""What is named in the place of a reference, and is none: `totalanvi info` says what it is and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.command_line import Run
from tests.support.queries import write_anndata
from tests.support.toy_bundle import toy_query, write_toy_bundle

TESTS = Path(__file__).parents[2]


def _cells(folder: Path) -> Path:
    return write_anndata(toy_query(3), folder / "query.h5ad")


def _zarr(folder: Path) -> Path:
    toy_query(3).write_zarr(folder / "query.zarr")
    return folder / "query.zarr"


def _another_config(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text('{"hidden_size": 768}')
    return folder / "other"


@pytest.mark.parametrize(
    ("made", "found", "cure"),
    [
        (
            lambda folder: TESTS / "data" / "checkpoint_version_1",
            "a checkpoint of training",
            "make a bundle of it (totalanvi export {path} -o BUNDLE)",
        ),
        (
            lambda folder: TESTS / "reference" / "scvi" / "1.5.1" / "totalanvi",
            "a model that scvi-tools saved",
            "totalanvi import-scvi {path} -o CHECKPOINT/",
        ),
        (_cells, "a file of cells", "name what `export` wrote; cells to map come after it"),
        (_zarr, "a folder of cells", "cells to map come after it"),
        (
            lambda folder: write_toy_bundle(folder / "toy") / "encoder.onnx",
            "a file of one",
            "name its folder ({folder}",
        ),
        (_another_config, "a folder without manifest.json", "name what `export` wrote"),
    ],
    ids=["checkpoint", "scvi", "cells", "zarr", "inside", "another"],
)
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_info_says_what_it_is(run: Run, tmp_path: Path, made: Callable[[Path], Path], found: str, cure: str) -> None:
    path = made(tmp_path)
    code, printed, said = run("info", path)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert f"{path}: expected the folder of a bundle, found {found}; " in said
    assert cure.format(path=path, folder=tmp_path) in said
