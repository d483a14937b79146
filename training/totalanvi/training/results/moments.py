"""Correlations of more rows than are held at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

__all__ = ["Moments", "ranks", "spearman"]

_FEATURES_AT_ONCE = 256

Matrix = npt.NDArray[np.float64]


class Moments:
    r"""Mean and cross-products of features, updated block by block.

    .. math::

        C_{A \cup B} = C_A + C_B + \frac{n_A n_B}{n_A + n_B} (μ_B - μ_A)(μ_B - μ_A)^T

    which loses no digits to large means, as sums of products would.

    Parameters
    ----------
    n_features
        Features of a row.

    References
    ----------
    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances. COMPSTAT 1982.
    """

    def __init__(self, n_features: int):
        self.n = 0
        self.mean = torch.zeros(n_features, dtype=torch.float64)
        self.products = torch.zeros(n_features, n_features, dtype=torch.float64)

    def add(self, block: Tensor) -> None:
        """Take (rows, features)."""
        block = block.to("cpu", torch.float64)
        n_block = len(block)
        mean = block.mean(dim=0)
        centred = block - mean
        self.products.addmm_(centred.t(), centred)
        shift = mean - self.mean
        n_all = self.n + n_block
        self.products.addr_(shift, shift, alpha=self.n * n_block / n_all)
        self.mean += shift * (n_block / n_all)
        self.n = n_all

    def correlation(self) -> Matrix:
        """Pearson's correlation, (features, features); NaN with a feature that does not vary."""
        scale = self.products.diagonal().sqrt()
        # Rounding may leave a little of what is constant, and something a little above 1 of what is not.
        scale[scale <= 1e-12 * self.n**0.5 * self.mean.abs()] = torch.nan
        correlation: Matrix = (self.products / scale[:, None]).div_(scale).clamp_(-1.0, 1.0).numpy()
        return correlation


def spearman(blocks: Iterator[Tensor], n_features: int) -> Matrix:
    """Spearman's correlation within each block of (rows, features), averaged over all, (features, features).

    With one block it is that of all rows. With several, each of which is a random part of the rows, it estimates the
    same: within n random rows, Spearman's ρ is off by 3 (τ − ρ) / (n + 1) on average, τ being Kendall's.

    References
    ----------
    Hoeffding: A class of statistics with asymptotically normal distribution. Annals of Mathematical Statistics 19
    (1948).
    """
    total, n_rows = np.zeros((n_features, n_features)), np.zeros((n_features, n_features))
    for block in blocks:
        moments = Moments(n_features)
        moments.add(torch.from_numpy(ranks(block.cpu().numpy())))
        correlation = moments.correlation()
        # A feature may be constant in one block, as a protein that is rarely there, and vary in others.
        total += len(block) * np.nan_to_num(correlation)
        n_rows += len(block) * np.isfinite(correlation)
    return np.divide(total, n_rows, out=np.full_like(total, np.nan), where=n_rows > 0)


def ranks(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rank of every value within its feature, equal values sharing their mean rank, (rows, features)."""
    result = np.empty_like(block)
    for start in range(0, block.shape[1], _FEATURES_AT_ONCE):
        features = slice(start, start + _FEATURES_AT_ONCE)
        result[:, features] = rankdata(block[:, features], axis=0)
    return result
