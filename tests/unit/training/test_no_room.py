"""A disk that fills up: one message, exit code 2, nothing half-written, and no crash inside HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.reference_cells import draw_adata

from totalanvi.serving.cli import main

resource = pytest.importorskip("resource", reason="sizes of files can be limited on POSIX only")


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with files_of_at_most(4096), pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_no_room_for_simulated_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = refused(capsys, "simulate", tmp_path / "cells.h5mu", "--cells", 100, "--genes", 50, "--proteins", 5)
    assert "Error: Expected to open and write" in errors
    assert "File too large" in errors
    assert "Make room" in errors
    assert not list(tmp_path.iterdir())


def test_no_room_for_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = tmp_path / "reference.h5ad"
    draw_adata().write_h5ad(reference)
    errors = refused(
        capsys, "train", reference, "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", tmp_path / "made"
    )
    assert "Error: Expected to open and write" in errors
    assert "Make room" in errors
    assert list(tmp_path.iterdir()) == [reference]
