"""A disk that fills up: one message, exit code 2, nothing half-written, and no crash inside HDF5."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.command_line import QuietRun
from tests.support.files import file_size_limit
from tests.support.reference_cells import draw_adata

pytest.importorskip("resource", reason="sizes of files can be limited on POSIX only")


def refused(run: QuietRun, *arguments: object) -> str:
    with file_size_limit(4096):
        code, said = run(*arguments)
    assert code == 2
    return said


def test_no_room_for_simulated_cells(tmp_path: Path, run: QuietRun) -> None:
    errors = refused(run, "simulate", tmp_path / "cells.h5mu", "--cells", 100, "--genes", 50, "--proteins", 5)
    assert "Error: Expected to open and write" in errors
    assert "File too large" in errors
    assert "Make room" in errors
    assert not list(tmp_path.iterdir())


def test_no_room_for_a_checkpoint(tmp_path: Path, run: QuietRun) -> None:
    reference = tmp_path / "reference.h5ad"
    draw_adata().write_h5ad(reference)
    errors = refused(
        run, "train", reference, "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", tmp_path / "made"
    )
    assert "Error: Expected to open and write" in errors
    assert "Make room" in errors
    assert list(tmp_path.iterdir()) == [reference]
