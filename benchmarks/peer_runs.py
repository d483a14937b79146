"""The peers: each a script in an environment of its own, its answers kept until its task or its settings change."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from answers import Answers

HERE = Path(__file__).resolve().parent
PYTHON = HERE / ".peers" / "bin" / "python"


@dataclass(frozen=True)
class Peer:
    """One method to compare with: its script in ``peers/``, and which variant of it."""

    title: str
    script: str
    variant: str = ""
    epochs: bool = False
    """Whether it is a deep model: `--max-epochs` means something to it, and it takes minutes."""


PEERS: dict[str, Peer] = {
    "scvi_totalanvi": Peer("scvi-tools TOTALANVI, zero-shot", "scvi_totalanvi.py", epochs=True),
    "scvi_totalvi_joint": Peer("scvi-tools TOTALVI, trained jointly", "scvi_totalvi_joint.py", epochs=True),
    "celltypist": Peer("CellTypist, own model", "celltypist_own.py"),
    "knn": Peer("50 PCs + 15 nearest neighbours (30 for proteins)", "knn.py"),
    "logistic_pcs": Peer("50 PCs + logistic regression (ridge for proteins)", "logistic.py", variant="pcs"),
    "logistic_genes": Peer("genes + logistic regression (ridge for proteins)", "logistic.py", variant="genes"),
}


def set_up() -> None:
    """Make the peers' environment; quick when it is there."""
    subprocess.run([HERE / "setup_peers.sh"], check=True)


def run(name: str, folder: Path, seed: int, max_epochs: int, threads: int) -> Answers:
    """Return a peer's answers to the case in ``folder``: the kept ones, or new ones."""
    peer = PEERS[name]
    output = folder / (f"{name}-epochs{max_epochs}.npz" if peer.epochs else f"{name}.npz")
    if not output.exists():
        command: list[str | Path] = [PYTHON, "-W", "ignore", HERE / "peers" / peer.script, folder, "--output", output]
        command += ["--seed", str(seed), "--max-epochs", str(max_epochs), "--threads", str(threads)]
        command += ["--variant", peer.variant] if peer.variant else []
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
        subprocess.run(command, check=True, env={**os.environ, **limits})
    return Answers.read(output)
