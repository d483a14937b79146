"""`totalanvi train` that is told to end in the middle of it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from tests.support.command_line import CONSOLE_SCRIPT, hear_signals
from tests.support.files import listing
from tests.support.reference_cells import draw_adata

from totalanvi.training.checkpoints.folder import CONFIG
from totalanvi.training.cli_interrupts import told_what_is_lost


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [(signal.SIGINT, 130, "interrupted."), (signal.SIGTERM, 143, "told to end (SIGTERM).")],
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
    assert [line for line in errors.splitlines() if line.startswith(("Nothing", "Error"))] == [
        f"Nothing of this run was kept: {tmp_path / 'out'} is written when all is done. In Python, "
        "train(resume_folder=...) keeps each epoch.",
        f"Error: {said}",
    ]
    assert "Traceback" not in errors
    assert listing(tmp_path) == ["reference.h5ad"]


def test_only_what_is_lost_is_told(tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    out.mkdir()
    (out / CONFIG).write_text("{}")
    with pytest.raises(KeyboardInterrupt), told_what_is_lost(out, said.append):
        raise KeyboardInterrupt
    assert len(said) == 1
    assert f"{out} is what it was before." in said[0]

    def write_and_end() -> None:
        (out / CONFIG).rename(out / "old")
        (out / CONFIG).write_text("{}")
        raise SystemExit(143)

    with pytest.raises(SystemExit), told_what_is_lost(out, said.append):
        write_and_end()
    assert len(said) == 1, "it was written before"
