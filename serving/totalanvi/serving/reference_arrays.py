"""The arrays of a bundle: a small map of the reference, its average profile, and the distances novelty is read from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from totalanvi.serving.errors import BundleError
from totalanvi.serving.manifest import REFERENCE_FILE, Manifest, Mode

__all__ = ["ReferenceArrays"]

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class ReferenceArrays:
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
    novelty_protein, novelty_rna
        Ascending neighbour distances (see `totalanvi.serving.neighbours`) of held-out reference cells, mapped with
        their proteins and without, (held_out,), float32.
    """

    latent: npt.NDArray[np.float32]
    label: npt.NDArray[np.int32]
    coordinates: npt.NDArray[np.float32]
    gene_share: npt.NDArray[np.float32]
    gene_weight: npt.NDArray[np.float32]
    protein_share: npt.NDArray[np.float32]
    novelty_protein: npt.NDArray[np.float32]
    novelty_rna: npt.NDArray[np.float32]

    def novelty_distances(self, mode: Mode) -> npt.NDArray[np.float32]:
        """Return the held-out distances of one mode, (held_out,)."""
        return self.novelty_protein if mode == "protein" else self.novelty_rna

    @classmethod
    def parse(cls, content: bytes, manifest: Manifest, *, source: Path) -> ReferenceArrays:
        """Read the arrays from safetensors bytes and hold them against the manifest.

        Raises
        ------
        BundleError
            When the bytes are not safetensors, an array is missing or unknown, or one does not fit the manifest.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(content)
        except (SafetensorError, KeyError, ValueError) as error:
            raise BundleError(
                f"{source}: expected safetensors in {REFERENCE_FILE}, found {error}; export again."
            ) from error
        names = {field.name for field in fields(cls)}
        if arrays.keys() != names:
            raise BundleError(
                f"{source}: expected {REFERENCE_FILE} to hold {sorted(names)}, found {sorted(arrays)}; export again."
            )
        reference = cls(**arrays)
        if problem := reference.problem(manifest):
            raise BundleError(f"{source}: {REFERENCE_FILE}: {problem}; export again.")
        return reference

    def save(self, file: Path, manifest: Manifest) -> None:
        """Write the arrays, for the export stage.

        Raises
        ------
        BundleError
            When an array does not fit the manifest.
        """
        from safetensors.numpy import save

        if problem := self.problem(manifest):
            raise BundleError(f"{file}: {problem}.")
        # Not save_file, which makes a file that nobody but its owner can read, whatever the umask says.
        file.write_bytes(save({field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}))

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
            "novelty_protein": (self.novelty_protein.size,),
            "novelty_rna": (self.novelty_rna.size,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            dtype = np.dtype(np.int32 if name == "label" else np.float32)
            if array.dtype != dtype or array.shape != shape:
                return f"{name}: expected {dtype} of shape {shape}, found {array.dtype} of shape {array.shape}"
            if dtype.kind == "f" and not np.isfinite(array).all():
                return f"{name}: expected finite values, found others"
        return self._landmarks_problem(manifest) or self._shares_problem() or self._novelty_problem()

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

    def _novelty_problem(self) -> str | None:
        for mode in get_args(Mode):
            distances = self.novelty_distances(mode)
            if not distances.size or distances[0] < 0 or np.any(np.diff(distances) < 0):
                return f"novelty_{mode}: expected ascending distances of at least one held-out cell, found others"
        return None
