"""Labels and their ancestors: where a label is not certain, the nearest ancestor that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import numpy as np
import numpy.typing as npt

__all__ = ["Hierarchy", "hierarchy_problem"]

_ROUNDING = 1e-6
"""What probabilities in single precision may fail to add up to 1 by."""


def hierarchy_problem(labels: Sequence[str], parents: Mapping[str, str]) -> str | None:
    """Return what is wrong with a hierarchy, None when nothing is.

    Parameters
    ----------
    labels
        Of the reference, (labels,).
    parents
        The parent of each label or ancestor that has one.

    Examples
    --------
    >>> hierarchy_problem(["CD4 T", "B"], {"CD4 T": "T", "T": "lymphocyte", "B": "lymphocyte"})
    >>> hierarchy_problem(["CD4 T", "B"], {"CD8 T": "T"})
    "expected labels of the reference and their ancestors, found 'CD8 T', which is neither"
    """
    known = {*labels, *parents.values()}
    for name in parents:
        if name not in known:
            return f"expected labels of the reference and their ancestors, found {name!r}, which is neither"
    try:
        TopologicalSorter({name: [parent] for name, parent in parents.items()}).prepare()
    except CycleError as error:
        return f"expected parents that end somewhere, found a circle: {' → '.join(reversed(error.args[1]))}"
    return None


class Hierarchy:
    """Labels under ancestors, which may be labels themselves.

    Parameters
    ----------
    labels
        Of the reference, (labels,).
    parents
        The parent of each label or ancestor that has one; see `hierarchy_problem`.

    Attributes
    ----------
    names : list of str
        The labels, and after them the ancestors that are no labels, (names,).

    Examples
    --------
    >>> hierarchy = Hierarchy(["CD4 T", "CD8 T", "B"], {"CD4 T": "T", "CD8 T": "T"})
    >>> probabilities = np.array([[0.6, 0.38, 0.02], [0.5, 0.1, 0.4], [0.05, 0.0, 0.95]])
    >>> codes = hierarchy.certain(probabilities, probabilities.argmax(axis=1), certainty=0.9)
    >>> [[*hierarchy.names, "unknown"][code] for code in codes]
    ['T', 'unknown', 'B']
    """

    def __init__(self, labels: Sequence[str], parents: Mapping[str, str]) -> None:
        self.names = list(dict.fromkeys([*labels, *parents.values()]))
        place = {name: code for code, name in enumerate(self.names)}
        chains = []
        for label in labels:
            chain = [label]
            while (parent := parents.get(chain[-1])) is not None:
                chain.append(parent)
            chains.append([place[name] for name in chain])
        depth = max(len(chain) for chain in chains)
        self._chains = np.array([chain + [-1] * (depth - len(chain)) for chain in chains], dtype=np.int32)
        self._under = np.zeros((len(self.names), len(labels)))
        for code, names in enumerate(chains):
            self._under[names, code] = 1

    def certain(
        self, probabilities: npt.NDArray[np.floating], guess: npt.NDArray[np.integer], certainty: float
    ) -> npt.NDArray[np.int32]:
        """Name each cell as precisely as is certain.

        Parameters
        ----------
        probabilities
            Calibrated, (cells, labels).
        guess
            Index of the likeliest label, (cells,).
        certainty
            What the probabilities of the labels under a name have to add up to.

        Returns
        -------
        numpy.ndarray
            Index into `names` of the label, or of its nearest ancestor that is certain; one past the last where none
            is, (cells,).
        """
        sums, cells = probabilities, np.arange(len(guess))
        if self._chains.shape[1] > 1:
            sums = np.asarray(probabilities, dtype=np.float64) @ self._under.T
        codes = np.full(len(guess), len(self.names), dtype=np.int32)
        # From the most distant ancestor to the label, so that the nearest one stands in the end.
        for names in self._chains[guess].T[::-1]:
            reached = np.asarray(sums[cells, names], dtype=np.float64)
            np.copyto(codes, names, where=(names >= 0) & (reached >= certainty - _ROUNDING))
        return codes
