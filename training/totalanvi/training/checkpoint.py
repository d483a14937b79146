"""The checkpoint: a folder with a trained model, what it knows of its reference, and a sample of its cells.

::

    checkpoint/
      model.safetensors     weights
      config.json           class, architecture, training options, history, versions
      registry.json         genes, proteins, labels, batches, panels, who measured what
      cells.safetensors     a sample of the reference: landmarks, and held-out cells for calibration

The sample is there because the export stage calibrates what it exports: it needs cells that training did not see, and a
few that it did, through the very engine that will serve. No file is a pickle.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as array_bytes
from safetensors.torch import load_file
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from totalanvi.training.data import Cells
from totalanvi.training.errors import CheckpointError
from totalanvi.training.registry import Registry

__all__ = ["Checkpoint", "ReferenceSample", "read_checkpoint", "sample_reference", "write_checkpoint"]

_FORMAT = "totalanvi checkpoint"
_VERSION = 1
_MODEL, _CONFIG, _REGISTRY, _CELLS = "model.safetensors", "config.json", "registry.json", "cells.safetensors"
_FILES = {_MODEL, _CONFIG, _REGISTRY, _CELLS}
_SECTIONS = {"class": str, "model": dict, "training": dict, "history": dict, "versions": dict}
_MOST_LANDMARKS = 2_000
_MOST_HELD_OUT = 4_000
_PACKAGES = ("totalanvi", "torch", "lightning", "anndata", "mudata", "numpy", "scipy")


@dataclass(frozen=True)
class ReferenceSample:
    """Cells of the reference that travel with the checkpoint."""

    landmarks: Cells
    """Training cells that stand for the reference in its map, rare labels included."""
    held_out: Cells
    """Validation cells; empty when training held none out."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    kind: str
    """``"TOTALVI"`` or ``"TOTALANVI"``."""
    weights: dict[str, Tensor]
    registry: Registry
    model: dict[str, Any]
    """Options of `ModelConfig`."""
    training: dict[str, Any]
    """Options of `TrainingConfig`, and what came of them: epochs, cells, the digest of the data."""
    history: dict[str, dict[str, float]]
    versions: dict[str, str]
    sample: ReferenceSample | None


def write_checkpoint(folder: Path, checkpoint: Checkpoint, overwrite: bool = False) -> None:
    """Write a checkpoint beside its final name, then rename: a folder of that name is always whole.

    Raises
    ------
    CheckpointError
        When ``folder`` exists and ``overwrite`` is false, or is something else than a checkpoint.
    """
    require_writable(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        temporary = Path(name) / "checkpoint"
        temporary.mkdir()
        # Not safetensors' save_file, which makes files that nobody but their owner can read, whatever the umask says.
        weights = {key: value.detach().cpu().contiguous() for key, value in checkpoint.weights.items()}
        (temporary / _MODEL).write_bytes(tensor_bytes(weights))
        checkpoint.registry.write(temporary / _REGISTRY)
        config = {
            "format": _FORMAT,
            "version": _VERSION,
            "class": checkpoint.kind,
            "model": checkpoint.model,
            "training": checkpoint.training,
            "versions": checkpoint.versions,
            "history": checkpoint.history,
        }
        (temporary / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if checkpoint.sample is not None:
            arrays = _cell_arrays("landmarks", checkpoint.sample.landmarks)
            arrays |= _cell_arrays("held_out", checkpoint.sample.held_out)
            (temporary / _CELLS).write_bytes(array_bytes(arrays))
        if folder.exists():
            folder.rename(Path(name) / "previous")
        temporary.rename(folder)


def require_writable(folder: Path, overwrite: bool) -> None:
    """Refuse a place that cannot be written, or holds what is not ours, before any work is done.

    Raises
    ------
    CheckpointError
        When ``folder`` exists and may not be replaced, or cannot be made.
    """
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        why = "which may not be written" if above.is_dir() else "which is a file"
        raise CheckpointError(
            f"Expected a folder in which to make {folder}, found {above}, {why}; choose another folder."
        )
    if not folder.exists():
        return
    if not overwrite:
        raise CheckpointError(
            f"Expected a folder that does not exist yet, found {folder}; choose another, or overwrite it (--overwrite)."
        )
    if folder.is_dir():
        found = {file.name for file in folder.iterdir()}
        strange = sorted(found - _FILES)
        if not found or (not strange and _is_checkpoint(folder)):
            return
        holds = f" (it holds {', '.join(strange[:3])})" if strange else ""
    else:
        holds = " (it is a file)"
    raise CheckpointError(
        f"{folder}: expected a checkpoint to replace, found something else{holds}, which would be lost; choose another."
    )


def _is_checkpoint(folder: Path) -> bool:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == _FORMAT


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        When it is missing, incomplete, altered beyond reading, or of a newer version.
    """
    config_file = folder / _CONFIG
    if not config_file.is_file():
        found = f"a folder without {_CONFIG}" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"Expected a checkpoint at {folder}, found {found}; give the folder that `train` wrote.")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if config["format"] != _FORMAT:
            raise ValueError(f"format {config['format']!r}")
        if config["version"] > _VERSION:
            raise CheckpointError(
                f"Expected a checkpoint of version {_VERSION} or older, found that {folder} has "
                f"{config['version']}; upgrade totalanvi."
            )
        wrong = [name for name, kind in _SECTIONS.items() if not isinstance(config[name], kind)]
        if wrong:
            raise TypeError(f"{', '.join(wrong)} of another type in {_CONFIG}")
        weights = load_file(folder / _MODEL)
        sample = None
        if (folder / _CELLS).exists():
            arrays = load_arrays(folder / _CELLS)
            sample = ReferenceSample(_cells_from(arrays, "landmarks"), _cells_from(arrays, "held_out"))
        return Checkpoint(
            kind=config["class"],
            weights=weights,
            registry=Registry.read(folder / _REGISTRY),
            model=config["model"],
            training=config["training"],
            history=config["history"],
            versions=config["versions"],
            sample=sample,
        )
    except (OSError, LookupError, TypeError, ValueError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"Expected a whole checkpoint at {folder}, found one that cannot be read "
            f"({type(error).__name__}: {error}); train again, or restore the folder."
        ) from error


def package_versions() -> dict[str, str]:
    """Versions of the packages that made a model."""
    return {name: version(name) for name in _PACKAGES}


def sample_reference(
    cells: Cells, train: npt.NDArray[np.intp], held_out: npt.NDArray[np.intp], seed: int = 0
) -> ReferenceSample:
    """Choose the cells that travel with a checkpoint.

    Landmarks are drawn label by label, in proportion to the square root of a label's size, so that rare types are not
    lost among the common ones.
    """
    rng = np.random.default_rng(seed)
    if len(train) > _MOST_LANDMARKS:
        labels, sizes = np.unique(cells.label[train], return_counts=True)
        shares = np.sqrt(sizes) / np.sqrt(sizes).sum()
        chosen = [
            rng.choice(members, size=min(len(members), max(1, int(share * _MOST_LANDMARKS))), replace=False)
            for label, share in zip(labels, shares, strict=True)
            for members in (train[cells.label[train] == label],)
        ]
        train = np.sort(np.concatenate(chosen))
    if len(held_out) > _MOST_HELD_OUT:
        held_out = np.sort(rng.choice(held_out, size=_MOST_HELD_OUT, replace=False))
    return ReferenceSample(landmarks=cells[train], held_out=cells[held_out])


def _cell_arrays(prefix: str, cells: Cells) -> dict[str, npt.NDArray[Any]]:
    arrays = {
        "indptr": cells.rna.indptr.astype(np.int64),
        "indices": cells.rna.indices.astype(np.int32),
        "counts": cells.rna.data.astype(np.float32),
        "n_genes": np.array([cells.rna.shape[1]]),
        "protein": cells.protein,
        "measured": cells.measured,
        "batch": cells.batch,
        "panel": cells.panel,
        "label": cells.label,
    }
    return {f"{prefix}.{name}": np.ascontiguousarray(array) for name, array in arrays.items()}


def _cells_from(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> Cells:
    def part(name: str) -> npt.NDArray[Any]:
        return arrays[f"{prefix}.{name}"]

    shape = (len(part("label")), int(part("n_genes")[0]))
    return Cells(
        rna=sp.csr_matrix((part("counts"), part("indices"), part("indptr")), shape=shape),
        protein=part("protein"),
        measured=part("measured").astype(bool),
        batch=part("batch"),
        panel=part("panel"),
        label=part("label"),
    )
