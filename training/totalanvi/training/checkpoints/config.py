"""``config.json`` of a checkpoint: what it says of the model, and of the files that belong to it."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from totalanvi.training.checkpoints.folder import CELLS, CONFIG, FORMAT, MODEL, READOUT, REGISTRY
from totalanvi.training.errors import CheckpointError

__all__ = [
    "VERSION",
    "checked_config",
    "config_file",
    "digests",
    "readable_history",
    "verified_files",
    "written_history",
]

VERSION = 3
"""Version of the format. Since 2: digests, the split, frozen parameters, data beside. Since 3: a readout."""

_SECTIONS = {"class": str, "model": dict, "training": dict, "history": dict, "versions": dict}
_SECTIONS_SINCE_2 = {"frozen": list, "files": dict}


def config_file(folder: Path, prefix: str = "") -> Path:
    """Return the ``config.json`` of a checkpoint, which is not read.

    Raises
    ------
    CheckpointError
        When there is none.
    """
    file = folder / f"{prefix}{CONFIG}"
    if not file.is_file():
        raise CheckpointError(f"Expected a checkpoint at {folder}, found {_instead(folder, prefix)}.")
    return file


def checked_config(folder: Path, prefix: str) -> dict[str, Any]:
    """Read ``config.json``.

    Raises
    ------
    CheckpointError
        When there is none, or it is of a newer version.
    LookupError, TypeError, ValueError
        When it is not what `write_checkpoint` wrote.
    """
    file = config_file(folder, prefix)
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if config["format"] != FORMAT:
        raise ValueError(f"format {config['format']!r}")
    if config["version"] > VERSION:
        raise CheckpointError(
            f"Expected a checkpoint of version {VERSION} or older, found that {folder} has {config['version']}; "
            "upgrade totalanvi."
        )
    sections = _SECTIONS | (_SECTIONS_SINCE_2 if config["version"] > 1 else {})
    wrong = [name for name, kind in sections.items() if not isinstance(config[name], kind)]
    if wrong:
        raise TypeError(f"{', '.join(wrong)} of another type in {file.name}")
    return config


def verified_files(folder: Path, prefix: str, config: dict[str, Any]) -> dict[str, Path]:
    """Return the files of a checkpoint by name, after looking whether they are those that were saved.

    Raises
    ------
    CheckpointError
        Naming the file that was altered.
    """
    signed = config["version"] > 1
    there = config["files"] if signed else [name for name in (CELLS,) if (folder / f"{prefix}{name}").exists()]
    names = (MODEL, REGISTRY, *(name for name in (CELLS, READOUT) if name in there))
    files = {name: folder / f"{prefix}{name}" for name in names}
    for name, path in files.items():
        if signed and _digest(path) != config["files"][name]:
            raise CheckpointError(
                f"{path}: expected the file that was saved, found one that was altered; restore it, or train again."
            )
    return files


def digests(folder: Path, prefix: str) -> dict[str, str]:
    """SHA-256 of each file in ``folder``, by its name without prefix."""
    return {path.name.removeprefix(prefix): _digest(path) for path in sorted(folder.iterdir())}


def written_history(history: dict[str, dict[str, float]]) -> dict[str, dict[str, float | str]]:
    """History as JSON takes it: "nan" and "inf", which it has no numbers for, as text."""
    return {
        metric: {epoch: value if math.isfinite(value) else str(value) for epoch, value in values.items()}
        for metric, values in history.items()
    }


def readable_history(written: dict[str, dict[str, float | str]]) -> dict[str, dict[str, float]]:
    """What `written_history` was given."""
    return {metric: {at: float(value) for at, value in dict(values).items()} for metric, values in written.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _instead(folder: Path, prefix: str) -> str:
    """What is found where no checkpoint is, and what to do about it."""
    if folder.is_file():
        return "a file; give the folder that `train` wrote"
    if not folder.is_dir():
        return "no such folder; give the folder that `train` wrote"
    found = f"a folder without {prefix}{CONFIG}"
    if (folder / f"{prefix}attr.pkl").exists():
        return f"{found} but with a save in parts; convert it with convert_legacy_save(...)"
    if (folder / f"{prefix}model.pt").exists():
        return f"{found} but with a save of scvi-tools; read it with `totalanvi import-scvi`"
    return f"{found}; give the folder that `train` wrote"
