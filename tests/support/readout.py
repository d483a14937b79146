"""Arrays of a readout that nothing was fitted for."""

from __future__ import annotations

import numpy as np

from totalanvi.serving.bundles.readout_arrays import ReadoutArrays

__all__ = ["draw_readout_arrays"]


def draw_readout_arrays(n_labels: int, n_components: int, n_proteins: int, n_batches: int, seed: int) -> ReadoutArrays:
    """Means, covariances and scales at random, all of them valid."""
    rng = np.random.default_rng(seed)
    n_features = n_components + n_proteins

    def covariance() -> np.ndarray:
        root = rng.standard_normal((n_features, 2 * n_features))
        return root @ root.T / (2 * n_features)

    arrays = {
        "protein_centre": rng.uniform(1, 4, n_proteins),
        "protein_spread": rng.uniform(0.5, 1.5, n_proteins),
        "protein_smear": rng.uniform(1, 1.5, n_proteins),
        "share_knots": np.tile(np.linspace(0, 6, 4), (n_proteins, 1)),
        "share": np.sort(rng.random((n_proteins, 4)), axis=1),
        "batch_centre": rng.uniform(1, 4, (n_batches, n_proteins)),
        "batch_spread": rng.uniform(0.5, 1.5, (n_batches, n_proteins)),
        "density_mean": 3 * rng.standard_normal((n_labels, n_features)),
        "density_covariance": np.array([covariance() for _ in range(n_labels)]),
        "density_shared": covariance(),
        "component_variance": rng.uniform(0.5, 2, n_components),
        "gene_noise": np.array([0.1]),
        "novelty_scale": np.array([[0.0, 1.0], [0.5, 0.4], [-5.0, 2.0]]),
    }
    return ReadoutArrays(**{name: array.astype(np.float32) for name, array in arrays.items()})
