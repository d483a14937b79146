"""`totalanvi train` that is told to end in the middle of it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from tests.support.command_line import CONSOLE_SCRIPT, hear_signals
from tests.support.files import listing
from tests.support.reference_cells import draw_adata


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to end")],
    ids=["int", "term"],
)
def test_a_signal_ends_training_in_one_line(tmp_path: Path, sent: signal.Signals, code: int, said: str) -> None:
    draw_adata().write_h5ad(tmp_path / "reference.h5ad")
    command = [
        "train",
        tmp_path / "reference.h5ad",
        "--labels",
        "kind",
        "--unlabeled",
        "unknown",
        "-o",
        tmp_path / "out",
        "--max-epochs",
        "99999",
    ]
    with subprocess.Popen(
        [CONSOLE_SCRIPT, *command], stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    ) as process:
        try:
            assert process.stderr is not None
            assert "cells" in process.stderr.readline()  # training begins
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1.5)
            process.send_signal(sent)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(f"Error: {said}")
    assert "Traceback" not in errors
    assert listing(tmp_path) == ["reference.h5ad"]
