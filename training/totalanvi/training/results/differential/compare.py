"""Two groups of cells → the table of what differs between them.

Genes and proteins are tested apart, each with its own pseudocount: ρ is a share of a cell's transcripts, a protein's
expression a count. Where the smallest change that matters is learned, the genes teach it, for both: of the few proteins
one that is on in one group alone would set it, above all others. The false discovery rate is over both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.data import Cells
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.results.differential.groups import Comparison
from totalanvi.training.results.differential.hypotheses import bayes_factor, discoveries, vanilla_test
from totalanvi.training.results.differential.options import Criteria
from totalanvi.training.results.differential.sampling import Draws, Pairs, Sampling, draw_expression, pair_up
from totalanvi.training.results.differential.statistics import RawCounts, RawStatistics, as_columns
from totalanvi.training.results.differential.thresholds import learned_pseudocount

__all__ = ["Comparer"]

_SHARE_TOLD = 1e-3
"""Of the genes' pseudocount: it decides what differs, and would shrink the change that is told."""

Array = npt.NDArray[np.float32]


class Comparer:
    """Compares groups of cells.

    Parameters
    ----------
    module
        The network.
    cells
        Registered cells.
    genes, proteins
        Names of the features that are sampled; none where a kind is left out.
    sampling
        How to draw.
    criteria
        When a feature differs.
    """

    def __init__(
        self,
        module: TotalVAE,
        cells: Cells,
        genes: tuple[str, ...],
        proteins: tuple[str, ...],
        sampling: Sampling,
        criteria: Criteria,
    ):
        self.module = module
        self.cells = cells
        self.counts = RawCounts(cells)
        self.genes = genes
        self.proteins = [f"{name}_protein" for name in proteins]
        self.sampling = sampling
        self.criteria = criteria

    def __call__(self, comparison: Comparison) -> pd.DataFrame:
        """Test every feature, (features,) rows, those likeliest to differ first."""
        policy = self.sampling.policy
        first = self._draw(comparison.first, policy.first)
        second = self._draw(comparison.second, policy.second)
        pairs = pair_up(self.sampling)
        tables = []
        delta = None
        if self.genes:
            pseudocount = self._gene_pseudocount(comparison, (first.genes, second.genes))
            columns = self._test(first.genes, second.genes, pairs, (pseudocount, _SHARE_TOLD * pseudocount), None)
            delta = columns.get("delta")
            columns |= self._statistics(comparison, self.counts.genes)
            tables.append(pd.DataFrame(columns, index=self.genes))
        if self.proteins:
            pseudocount = self.criteria.pseudocounts.proteins
            columns = self._test(first.proteins, second.proteins, pairs, (pseudocount, pseudocount), delta)
            columns |= self._statistics(comparison, self.counts.proteins)
            tables.append(pd.DataFrame(columns, index=self.proteins))
        return self._finished(pd.concat(tables), comparison)

    def _draw(self, group: npt.NDArray[np.bool_], decode_as: tuple[int | None, ...]) -> Draws:
        return draw_expression(self.module, self.cells, np.flatnonzero(group), decode_as, self.sampling)

    def _gene_pseudocount(self, comparison: Comparison, draws: tuple[Array, Array]) -> float:
        given, threshold = self.criteria.pseudocounts.genes, self.criteria.pseudocounts.threshold
        if given is not None:
            return given
        first, second = (
            self.counts.mean_of_genes(group) < threshold for group in (comparison.first, comparison.second)
        )
        return learned_pseudocount(draws, (first, second))

    def _test(
        self,
        first: Array,
        second: Array,
        pairs: Pairs | None,
        pseudocounts: tuple[float, float],
        delta: float | None,
    ) -> dict[str, Any]:
        """Columns of one kind of feature, from its draws, (draws, features).

        ``pseudocounts`` are that of the decision and that of the change that is told.
        """
        pseudocount, told_pseudocount = pseudocounts
        scales = {f"scale{i}": draws.mean(axis=0, dtype=np.float64) for i, draws in ((1, first), (2, second))}
        if pairs is not None:
            first, second = first[pairs.first], second[pairs.second]
        if self.criteria.mode == "vanilla":
            higher = vanilla_test(first, second)
            return {"proba_m1": higher, "proba_m2": 1.0 - higher, "bayes_factor": bayes_factor(higher), **scales}
        differs, delta = self.criteria.change.decide(first, second, pseudocount, delta)
        return {
            "proba_de": differs,
            "proba_not_de": 1.0 - differs,
            "bayes_factor": bayes_factor(differs),
            **scales,
            "pseudocounts": pseudocount,
            "delta": delta,
            **self.criteria.change.describe(first, second, told_pseudocount),
        }

    def _statistics(
        self, comparison: Comparison, of: Callable[[npt.NDArray[np.bool_]], RawStatistics]
    ) -> dict[str, Any]:
        return as_columns(of(comparison.first), of(comparison.second)) if self.criteria.all_stats else {}

    def _finished(self, table: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
        change = self.criteria.mode == "change"
        table = table.sort_values("proba_de" if change else "bayes_factor", ascending=False, kind="stable")
        if change:
            target = self.criteria.fdr_target
            table[f"is_de_fdr_{target}"] = discoveries(table["proba_de"].to_numpy(), target)
        if comparison.names is not None:
            first, second = comparison.names
            table["comparison"] = f"{first} vs {second}"
            table["group1"], table["group2"] = first, second
        return table
