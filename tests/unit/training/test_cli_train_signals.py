"""`totalanvi train` that is told to end in the middle of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.reference_cells import draw_adata

CONSOLE_SCRIPT = Path(sys.executable).with_name("totalanvi")


def _hear_signals() -> None:
    """Undo what a shell does to what it runs in the background: there, an interrupt is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
        "-o",
        tmp_path / "out",
        "--max-epochs",
        "99999",
    ]
    with subprocess.Popen(
        [CONSOLE_SCRIPT, *command], stderr=subprocess.PIPE, text=True, preexec_fn=_hear_signals
    ) as process:
        try:
            assert process.stderr is not None
            assert "cells" in process.stderr.readline()  # training begins
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            process.send_signal(sent)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(f"Error: {said}")
    assert "Traceback" not in errors
    assert sorted(file.name for file in tmp_path.iterdir()) == ["reference.h5ad"]
