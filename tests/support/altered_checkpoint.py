"""Checkpoints that a test has changed on purpose, signed anew so that they still are whole."""

from __future__ import annotations

import json
from pathlib import Path

from totalanvi.training.checkpoints.config import digests

__all__ = ["sign", "without_readout"]


def sign(checkpoint: Path) -> Path:
    """Let a checkpoint say of its files what they are now."""
    file = checkpoint / "config.json"
    config = json.loads(file.read_text())
    found = digests(checkpoint, prefix="")
    config["files"] = {name: found[name] for name in config["files"] if name in found}
    file.write_text(json.dumps(config))
    return checkpoint


def without_readout(checkpoint: Path) -> Path:
    """Take the readout out of a checkpoint, which leaves fewer graphs to export."""
    (checkpoint / "readout.safetensors").unlink()
    return sign(checkpoint)
