r"""From pairs of draws to the probability that a feature differs.

With :math:`h_1, h_2` the expression of a feature in a pair of draws, one of either group:

.. math::

    \text{vanilla:} \quad p(M_1) &= p(h_1 > h_2) \\
    \text{change:} \quad r &= \log_2 (h_1 + ε) - \log_2 (h_2 + ε),
        \quad p_{de} = \max\{p(r \ge δ),\; p(r < -δ)\} \text{ or their sum}

References
----------
Lopez, Regier, Cole, Jordan, Yosef: Deep generative modeling for single-cell transcriptomics. Nature Methods 15 (2018):
vanilla. Boyeau, Lopez, Regier, Gayoso, Jordan, Yosef: Deep generative models for detecting differential expression in
single cells. MLCB (2019): change, and the false discovery rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from totalanvi.training.checks import as_choice, as_names, as_number, require_function
from totalanvi.training.errors import ArgumentError
from totalanvi.training.results.differential.thresholds import learned_delta

__all__ = ["ChangeTest", "bayes_factor", "discoveries", "log_fold_change", "vanilla_test"]

_EPSILON = 1e-8

Array = npt.NDArray[Any]
Columns = dict[str, Any]


@dataclass(frozen=True)
class ChangeTest:
    """How a change is measured, and when it counts.

    Parameters
    ----------
    delta
        Smallest change that counts; `None` learns it.
    test_mode
        ``"two"`` adds up and down, ``"three"`` takes the likelier.
    change_fn
        Change of the first group against the second, from the expression in both and the pseudocount.
    m1_domain_fn
        Changes → which of them count as up, and which as down; instead of ``delta``.
    cred_interval_lvls
        Levels of the credible intervals to tell.

    Raises
    ------
    ArgumentError
        For what is none of these.
    """

    delta: float | None = 0.25
    test_mode: Literal["two", "three"] = "three"
    change_fn: Callable[[Array, Array, float], Array] | str | None = None
    m1_domain_fn: Callable[[Array], tuple[Array, Array]] | None = None
    cred_interval_lvls: Sequence[float] | Array | None = None

    def __post_init__(self) -> None:
        if self.delta is not None:
            as_number("delta", self.delta, 0, cure="give such a number, or None to learn it")
        as_choice("test_mode", self.test_mode, ("two", "three"))
        if self._given_change is not None:
            require_function("change_fn", self._given_change, 3, "two expressions and a pseudocount, or 'log-fold'")
        if self.m1_domain_fn is not None:
            require_function("m1_domain_fn", self.m1_domain_fn, 1, "changes")
        for level in self.levels:
            as_number("cred_interval_lvls", level, above=0, below=1, cure="give 0.95, for example")

    @property
    def levels(self) -> list[float]:
        """Levels of the credible intervals."""
        given = self.cred_interval_lvls
        return [] if given is None else as_names("cred_interval_lvls", given, "levels")

    @property
    def _given_change(self) -> Callable[[Array, Array, float], Array] | str | None:
        """The change of the user's; `None` for the log fold change."""
        return None if isinstance(self.change_fn, str) and self.change_fn == "log-fold" else self.change_fn

    def decide(
        self, first: Array, second: Array, pseudocount: float, delta: float | None = None
    ) -> tuple[Array, float]:
        """Probability that each feature differs, (features,), and the threshold that decided.

        Parameters
        ----------
        first, second
            Expression in pairs of draws, (pairs, features).
        pseudocount
            Added to both.
        delta
            A threshold that was learned already; `None` learns one where none was given.
        """
        change = self.change(first, second, pseudocount)
        if self.m1_domain_fn is not None:
            up, down = self._domain(change)
            delta = float("nan")
        else:
            delta = self.delta if self.delta is not None else delta
            delta = learned_delta(change.mean(axis=0, dtype=np.float64)) if delta is None else delta
            up, down = change >= delta, change < -delta
        p_up, p_down = np.mean(up, axis=0), np.mean(down, axis=0)
        return (p_up + p_down if self.test_mode == "two" else np.maximum(p_up, p_down)), delta

    def describe(self, first: Array, second: Array, pseudocount: float) -> Columns:
        """Mean, median, spread and credible intervals of the change, a column each, (features,)."""
        change = self.change(first, second, pseudocount)
        columns = {
            "lfc_mean": change.mean(axis=0, dtype=np.float64),
            "lfc_median": np.median(change, axis=0),
            "lfc_std": change.std(axis=0, dtype=np.float64),
            "lfc_min": change.min(axis=0),
            "lfc_max": change.max(axis=0),
        }
        if self.levels:
            change = np.sort(change, axis=0)
        for level in self.levels:
            low, high = _shortest_interval(change, level)
            name = f"lfc_confidence_interval_{str(level)[:5]}"
            columns |= {f"{name}_min": low, f"{name}_max": high}
        return columns

    def change(self, first: Array, second: Array, pseudocount: float) -> Array:
        """Change of each feature in each pair, (pairs, features)."""
        if self._given_change is None:
            return log_fold_change(first, second, pseudocount)
        assert callable(self._given_change)
        change = np.asarray(self._given_change(first, second, pseudocount))
        if change.shape != first.shape:
            raise ArgumentError(
                f"change_fn: expected a change for each pair and feature, {first.shape}, found {change.shape}; return "
                "that."
            )
        return change

    def _domain(self, change: Array) -> tuple[Array, Array]:
        assert self.m1_domain_fn is not None
        domain = self.m1_domain_fn(change)
        parts = list(domain) if isinstance(domain, Iterable) else [domain]
        if len(parts) != 2 or any(np.shape(part) != change.shape for part in parts):
            raise ArgumentError(
                f"m1_domain_fn: expected two arrays of {change.shape}, which changes are up and which are down, found "
                f"{[np.shape(part) for part in parts]}; return these."
            )
        return parts[0], parts[1]


def log_fold_change(first: Array, second: Array, pseudocount: float) -> Array:
    """``log2(first + ε) − log2(second + ε)``, elementwise; 0 where both sums are 0."""
    return _log2(first, pseudocount) - _log2(second, pseudocount)


def _log2(expression: Array, pseudocount: float) -> Array:
    shifted = expression + np.asarray(pseudocount, expression.dtype)
    np.maximum(shifted, np.finfo(shifted.dtype).tiny, out=shifted)
    return np.asarray(np.log2(shifted, out=shifted))


def vanilla_test(first: Array, second: Array) -> Array:
    """Probability that each feature is higher in the first group, (features,), from pairs, (pairs, features)."""
    return np.asarray(np.mean(first > second, axis=0))


def bayes_factor(probability: Array) -> Array:
    """Log of p / (1 − p), finite."""
    return np.asarray(np.log(probability + _EPSILON) - np.log(1.0 - probability + _EPSILON))


def discoveries(probability: Array, target: float) -> npt.NDArray[np.bool_]:
    """The largest set of likeliest features whose expected share of false ones is at most ``target``, (features,).

    The expected share in a set is the mean of 1 − p over it.
    """
    order = np.argsort(-probability, kind="stable")
    expected = np.cumsum(1.0 - probability[order]) / np.arange(1, len(order) + 1)
    found = np.zeros(len(order), dtype=bool)
    found[order[: int((expected <= target).sum())]] = True
    return found


def _shortest_interval(ordered: Array, level: float) -> tuple[Array, Array]:
    """Bounds of the shortest interval with a share ``level`` of the values, sorted along their first axis."""
    n_inside = int(np.floor(level * len(ordered)))
    width = ordered[n_inside:] - ordered[: len(ordered) - n_inside]
    start = np.argmin(width, axis=0)
    columns = np.arange(ordered.shape[1])
    return ordered[start, columns], ordered[start + n_inside, columns]
