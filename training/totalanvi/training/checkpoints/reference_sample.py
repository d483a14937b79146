"""The cells of a reference that travel with a checkpoint.

The export stage calibrates what it exports: it needs cells that training did not see, and a few that it did, through
the very engine that will serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from totalanvi.training.data import Cells

__all__ = ["ReferenceSample", "sample_reference"]

_MOST_LANDMARKS = 2_000
_MOST_HELD_OUT = 4_000
_LANDMARKS, _HELD_OUT = "landmarks", "held_out"
_COVARIATES = ("categorical", "continuous", "size_factor")


@dataclass(frozen=True)
class ReferenceSample:
    """Cells of the reference that travel with the checkpoint."""

    landmarks: Cells
    """Training cells that stand for the reference in its map, rare labels included."""
    held_out: Cells
    """Validation cells; empty when training held none out."""

    @property
    def held_out_or_landmarks(self) -> Cells:
        """Cells that training did not see, or where there are none, some that it did."""
        return self.held_out if len(self.held_out) else self.landmarks

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays for a safetensors file."""
        return _cell_arrays(_LANDMARKS, self.landmarks) | _cell_arrays(_HELD_OUT, self.held_out)

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> ReferenceSample | None:
        """Return what `to_arrays` was given, or `None` when there is no sample among ``arrays``."""
        if not any(name.startswith((f"{_LANDMARKS}.", f"{_HELD_OUT}.")) for name in arrays):
            return None
        return cls(_cells_from(arrays, _LANDMARKS), _cells_from(arrays, _HELD_OUT))


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
        **{name: getattr(cells, name) for name in _COVARIATES},
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
        # Checkpoints of version 1 have none.
        **{name: part(name) for name in _COVARIATES if f"{prefix}.{name}" in arrays},
    )
