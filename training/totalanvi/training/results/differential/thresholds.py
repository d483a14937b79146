"""What is learned from the draws: the pseudocount of the genes, and the smallest change that matters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["learned_delta", "learned_pseudocount"]

_QUANTILE = 0.9
_LEAST_PSEUDOCOUNT = 1e-10
_SHARE_OF_EXTREMES = 0.6
_LEAST_DELTA = 0.1
_N_COMPONENTS = 3

Array = npt.NDArray[Any]


def learned_pseudocount(
    draws: tuple[Array, Array], unexpressed: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
) -> float:
    """The expression that the model may give to genes that are not expressed.

    Among the genes without counts in a group, the 90 % quantile of the largest expression drawn for each; the greater
    of the two groups. Added to both sides of a fold change, it keeps such genes from having one.

    Parameters
    ----------
    draws
        Expression in either group, (draws, genes).
    unexpressed
        Which genes have no counts to speak of there, (genes,).

    References
    ----------
    Boyeau, Regier, Gayoso, Jordan, Lopez, Yosef: An empirical Bayes method for differential expression analysis of
    single cells with deep generative models. PNAS 120 (2023).
    """
    offsets = [
        float(np.quantile(expression.max(axis=0)[silent], _QUANTILE))
        for expression, silent in zip(draws, unexpressed, strict=True)
        if silent.any()
    ]
    return max([_LEAST_PSEUDOCOUNT, *offsets])


def learned_delta(mean_changes: Array) -> float:
    """The smallest change that matters, from the mean change of each feature, (features,).

    Three Gaussians are fitted to the changes: features that go down, that stay, that go up. The threshold is 0.6 of the
    mean distance of the outer two from 0, and 0.1 at least. Three features or fewer stand for themselves.

    References
    ----------
    As of `learned_pseudocount`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    centres = np.sort(mean_changes)
    if len(mean_changes) > _N_COMPONENTS:
        with warnings.catch_warnings():
            # Changes that are all alike have fewer clusters than asked for, and are no reason to complain.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture = GaussianMixture(_N_COMPONENTS, random_state=0).fit(mean_changes[:, None])
        centres = np.sort(mixture.means_.ravel())
    return max(_LEAST_DELTA, _SHARE_OF_EXTREMES * float(np.abs(centres[[0, -1]]).mean()))
