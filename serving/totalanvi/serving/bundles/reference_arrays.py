"""What a bundle keeps of its reference: a small map of it, and its average profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.array_file import ArrayFile
from totalanvi.serving.bundles.manifest import REFERENCE_FILE, Manifest

__all__ = ["ReferenceArrays"]

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class ReferenceArrays(ArrayFile):
    """Arrays of a reference; a sample of its cells ("landmarks") stands for all of them.

    Parameters
    ----------
    latent
        Of each landmark, after the latent transformation, (landmarks, n_latent), float32.
    label
        Index into the manifest's labels, -1 where unlabelled, (landmarks,), int32.
    coordinates
        Place of each landmark on a 2-D map, (landmarks, 2), float32.
    gene_share
        Average share of a reference cell's counts per gene, (genes,), float32; sums to 1.
    gene_weight
        Share of what the model has learned from genes per gene, (genes,), float32; sums to 1.
    protein_share
        Likewise per protein, (proteins,), float32.
    """

    FILE: ClassVar[str] = REFERENCE_FILE

    latent: npt.NDArray[np.float32]
    label: npt.NDArray[np.int32]
    coordinates: npt.NDArray[np.float32]
    gene_share: npt.NDArray[np.float32]
    gene_weight: npt.NDArray[np.float32]
    protein_share: npt.NDArray[np.float32]

    def problem(self, manifest: Manifest) -> str | None:
        """Return what does not fit the manifest, None when all does."""
        n_landmarks = len(self.latent)
        shapes: dict[str, tuple[int, ...]] = {
            "latent": (n_landmarks, manifest.n_latent),
            "label": (n_landmarks,),
            "coordinates": (n_landmarks, 2),
            "gene_share": (len(manifest.genes.names),),
            "gene_weight": (len(manifest.genes.names),),
            "protein_share": (len(manifest.proteins),),
        }
        return (
            self.shape_problem(shapes, integers=("label",))
            or self.finite_problem(tuple(name for name in shapes if name != "label"))
            or self._landmarks_problem(manifest)
            or self._shares_problem()
        )

    def _landmarks_problem(self, manifest: Manifest) -> str | None:
        if not len(self.latent):
            return "latent: expected reference cells, found none"
        if self.label.min() < -1 or self.label.max() >= len(manifest.labels):
            return f"label: expected indices from -1 to {len(manifest.labels) - 1}, found others"
        return None

    def _shares_problem(self) -> str | None:
        for name in ("gene_share", "gene_weight", "protein_share"):
            share = getattr(self, name)
            total = float(share.sum(dtype=np.float64))
            if share.min() < 0 or abs(total - 1) > _SUM_TOLERANCE:
                return f"{name}: expected shares of at least 0 that sum to 1, found a sum of {total:.6g}"
        return None
