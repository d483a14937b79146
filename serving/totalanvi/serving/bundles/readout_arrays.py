"""The arrays of a readout: what its graph's answers mean in counts, and where the labels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.array_file import ArrayFile
from totalanvi.serving.bundles.manifest import READOUT_FILE, Manifest

__all__ = ["ReadoutArrays"]


@dataclass(frozen=True, eq=False)
class ReadoutArrays(ArrayFile):
    """What `totalanvi.serving.engine.readout` needs besides its graph; all float32.

    Parameters
    ----------
    protein_centre, protein_spread
        Of log(1 + count) over all batches, (proteins,).
    protein_smear
        Mean of exp(measured − predicted log count), (proteins,).
    share_knots, share
        What share of a count is no background, at ascending logs of the count, (proteins, knots).
    batch_centre, batch_spread
        Of log(1 + count) within each batch, (batches, proteins).
    density_mean, density_covariance, density_shared
        Gaussians of the labels over components of the RNA, then standardised proteins: (labels, features), (labels,
        features, features), and the covariance that all labels share, (features, features).
    component_variance, gene_noise
        Of the components, (components,), and of what a gene has besides, (1,).
    novelty_scale
        Mean and spread of each measure of strangeness over cells of the reference, (3, 2).
    """

    FILE: ClassVar[str] = READOUT_FILE

    protein_centre: npt.NDArray[np.float32]
    protein_spread: npt.NDArray[np.float32]
    protein_smear: npt.NDArray[np.float32]
    share_knots: npt.NDArray[np.float32]
    share: npt.NDArray[np.float32]
    batch_centre: npt.NDArray[np.float32]
    batch_spread: npt.NDArray[np.float32]
    density_mean: npt.NDArray[np.float32]
    density_covariance: npt.NDArray[np.float32]
    density_shared: npt.NDArray[np.float32]
    component_variance: npt.NDArray[np.float32]
    gene_noise: npt.NDArray[np.float32]
    novelty_scale: npt.NDArray[np.float32]

    @property
    def n_components(self) -> int:
        """Components of the RNA."""
        return int(self.density_mean.shape[1]) - int(self.protein_centre.shape[0])

    @property
    def n_columns(self) -> int:
        """What RNA is projected to: components, regressions of proteins, regressions of labels."""
        return sum(self.density_mean.shape)

    def problem(self, manifest: Manifest) -> str | None:
        """Return what does not fit the manifest, None when all does."""
        n_labels, n_batches, n_proteins = len(manifest.labels), len(manifest.batches), len(manifest.proteins)
        n_features = self.density_mean.shape[-1] if self.density_mean.ndim else 0
        n_knots = self.share_knots.shape[-1] if self.share_knots.ndim else 0
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("protein_centre", "protein_spread", "protein_smear"), (n_proteins,)),
            **dict.fromkeys(("batch_centre", "batch_spread"), (n_batches, n_proteins)),
            **dict.fromkeys(("share_knots", "share"), (n_proteins, n_knots)),
            "density_mean": (n_labels, n_features),
            "density_covariance": (n_labels, n_features, n_features),
            "density_shared": (n_features, n_features),
            "component_variance": (max(n_features - n_proteins, 0),),
            "gene_noise": (1,),
            "novelty_scale": (3, 2),
        }
        if problem := self.shape_problem(shapes) or self.finite_problem(tuple(shapes)):
            return problem
        if n_features <= n_proteins:
            return f"density_mean: expected more than {n_proteins} features, found {n_features}"
        rising = all(np.all(np.diff(curve, axis=1) >= 0) for curve in (self.share_knots, self.share))
        if not n_knots or not rising or self.share.min() < 0 or self.share.max() > 1:
            return "share_knots, share: expected knots and shares from 0 to 1 that rise, found others"
        for name in ("protein_spread", "protein_smear", "batch_spread", "component_variance", "gene_noise"):
            if not (getattr(self, name) > 0).all():
                return f"{name}: expected values above 0, found others"
        if not (self.novelty_scale[:, 1] > 0).all():
            return "novelty_scale: expected spreads above 0, found others"
        try:
            for covariance in (*self.density_covariance, self.density_shared):
                np.linalg.cholesky(covariance.astype(np.float64))
        except np.linalg.LinAlgError:
            return "density_covariance, density_shared: expected positive definite matrices, found others"
        return None
