"""Training in two processes: what comes of it is what one process makes, and none is left when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tests.support import several_processes
from tests.support.command_line import CONSOLE_SCRIPT, hear_signals
from tests.support.files import listing
from tests.support.reference_cells import draw_adata
from tests.support.several_processes import PowerCut, train

from totalanvi.training import TOTALANVI
from totalanvi.training.fitting.trainer import RESUME_FILE

ROOT = Path(__file__).parents[2]
PATIENCE = 300
Found = TypeVar("Found")


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """With nothing left to chance: the same weights and history, also of runs that go on in another number of them."""
    expected, history = train(1)
    with pytest.raises(RuntimeError, match="power cut"):
        train(1, tmp_path / "begun", PowerCut())
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, several_processes.__file__, tmp_path],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    # An error that all of them have is told by one.
    assert ran.stderr.splitlines()[-1].endswith("RuntimeError: power cut")
    assert ran.stderr.count("Traceback") == 1
    assert ran.returncode == 1

    close(load_file(tmp_path / "trained.safetensors"), expected)
    found = json.loads((tmp_path / "history.json").read_text())
    assert found.keys() == history.keys()
    for name, values in history.items():
        assert found[name] == pytest.approx(values, rel=1e-3, abs=1e-5), name

    close(load_file(tmp_path / "resumed.safetensors"), expected)
    assert listing(tmp_path / "begun") == []
    assert listing(tmp_path / "left") == [RESUME_FILE]
    resumed, _ = train(1, tmp_path / "left")
    close(resumed, expected)


def command(folder: Path, *options: object) -> list[str]:
    draw_adata(40).write_h5ad(folder / "reference.h5ad")
    words = ["train", folder / "reference.h5ad", "--labels", "kind", "--unlabeled", "unknown", "-o", folder / "out"]
    return [str(word) for word in [CONSOLE_SCRIPT, *words, "--device", "cpu", "--devices", 2, *options]]


def test_the_command_writes_and_tells_once(tmp_path: Path) -> None:
    ran = subprocess.run(
        command(tmp_path, "--backed", "--strategy", "ddp", "--max-epochs", 2),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
    said = [line.strip().split()[0] for line in ran.stderr.splitlines() if line.strip()]
    assert said == ["40", "Training", "Training:", "Fitting", "Trained"]
    assert listing(tmp_path) == ["out", "reference.h5ad"]
    assert {"model.safetensors", "readout.safetensors", "report.html"} <= set(listing(tmp_path / "out"))
    model = TOTALANVI.load(tmp_path / "out", draw_adata(40))
    assert len(model.history["elbo_validation"]) == 2
    assert model.get_latent_representation().shape == (40, 20)


def terminate(process: psutil.Process, follower: psutil.Process) -> None:
    process.send_signal(signal.SIGTERM)


def kill_follower(process: psutil.Process, follower: psutil.Process) -> None:
    follower.kill()


def kill(process: psutil.Process, follower: psutil.Process) -> None:
    process.kill()


@pytest.mark.parametrize(
    ("act", "code", "said"),
    [
        (terminate, 143, "Error: told to end (SIGTERM)."),
        (
            kill_follower,
            2,
            "Error: Expected 2 processes that train together, found that process 1 ended",
        ),
        (kill, -signal.SIGKILL, ""),
    ],
)
def test_whatever_ends_one_process_ends_all(
    act: Callable[[psutil.Process, psutil.Process], None], code: int, said: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        command(tmp_path, "--max-epochs", 99999), stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    ) as process:
        try:
            first = psutil.Process(process.pid)
            follower = until(lambda: follower_of(first))
            # Whoever trains has a port of its own, where others find it.
            until(lambda: len(follower.net_connections()) > 1)
            time.sleep(1)
            act(first, follower)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    told = [line for line in errors.splitlines() if line.startswith("Error")]
    assert len(told) == bool(said)
    assert "".join(told).startswith(said)
    assert "Traceback" not in errors
    psutil.wait_procs([follower], timeout=10)
    assert not follower.is_running()
    assert listing(tmp_path) == ["reference.h5ad"]


def follower_of(first: psutil.Process) -> psutil.Process | None:
    """The process that was started to train; imports start short-lived ones, too."""
    for child in first.children():
        with suppress(psutil.Error):
            if "LOCAL_RANK" in child.environ():
                return child
    return None


def until(found: Callable[[], Found]) -> Found:
    """What is found at last."""
    deadline = time.monotonic() + PATIENCE
    while not (at_last := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return at_last
