"""How each label's cells lie: a Gaussian over components of the RNA and standardised proteins.

What is far from every label is new to the reference. What serves it asks it with any panel: proteins that were not
measured are integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LabelDensity"]

_DIAGONAL_SHARE = 0.05
_LEAST_VARIANCE = 1e-3

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelDensity:
    """A Gaussian for each label.

    Parameters
    ----------
    mean
        (labels, features).
    covariance
        (labels, features, features). A label's own, drawn towards the one that all labels share: the more, the fewer
        its cells are.
    shared_covariance
        (features, features): what the surprise of a label is counted from.
    """

    mean: Floats
    covariance: Floats
    shared_covariance: Floats

    @classmethod
    def fit(
        cls,
        features: npt.NDArray[np.floating],
        known: npt.NDArray[np.bool_],
        label: npt.NDArray[np.int64],
        n_labels: int,
    ) -> LabelDensity:
        """Fit the Gaussians.

        Parameters
        ----------
        features
            Of each cell, (cells, features).
        known
            Which of them are known, (cells, features): others are taken for their label's mean.
        label
            Codes, (cells,), negative where unknown; these cells say nothing.
        n_labels
            Labels of the model. One without cells lies where all cells lie.

        Notes
        -----
        With n cells of a label, scatter matrix T and d features, the covariance is ``(T + d C) / (n + d)``: that of an
        inverse Wishart prior around C, the covariance within labels, whose entries off the diagonal are shrunk by 5 %.

        Examples
        --------
        >>> LabelDensity.fit(features, known, label, n_labels=5).mean.shape  # doctest: +SKIP
        (5, 64)
        """
        n_features = features.shape[1]
        labelled = label >= 0
        features, known, label = features[labelled], known[labelled], label[labelled]
        overall = _mean(features, known, np.zeros(n_features))
        means, scatters, sizes = [], [], []
        for code in range(n_labels):
            mine = label == code
            mean = _mean(features[mine], known[mine], overall)
            centred = np.where(known[mine], features[mine] - mean, 0).astype(np.float64)
            means.append(mean)
            scatters.append(centred.T @ centred)
            sizes.append(len(centred))
        n_known = np.maximum(known.sum(axis=0), 1)
        shared = np.sum(scatters, axis=0) / np.sqrt(np.outer(n_known, n_known))
        shared = (1 - _DIAGONAL_SHARE) * shared + _DIAGONAL_SHARE * np.diag(np.diag(shared))
        shared[np.diag_indices(n_features)] += _LEAST_VARIANCE
        covariance = [
            (scatter + n_features * shared) / (size + n_features) for scatter, size in zip(scatters, sizes, strict=True)
        ]
        return cls(np.array(means, dtype=np.float32), np.array(covariance, dtype=np.float32), shared.astype(np.float32))


def _mean(
    features: npt.NDArray[np.floating], known: npt.NDArray[np.bool_], otherwise: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Mean of what is known in each column, or something else where nothing is."""
    n_known = known.sum(axis=0)
    total = np.where(known, features, 0).sum(axis=0, dtype=np.float64)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), otherwise)
