"""`differential_expression`: which genes and proteins differ between groups of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.progress import track

from totalanvi.training.base import BaseModel
from totalanvi.training.checks import as_choice, as_names, as_whole, require_flags
from totalanvi.training.errors import ArgumentError
from totalanvi.training.registration.codes import Batches
from totalanvi.training.registration.columns import Columns
from totalanvi.training.registration.setup_note import Data
from totalanvi.training.results.arguments import cells_in_batch
from totalanvi.training.results.differential.batches import batch_policy, warn_of_unmeasured
from totalanvi.training.results.differential.compare import Comparer
from totalanvi.training.results.differential.groups import (
    Comparison,
    Selection,
    compare_groups,
    compare_selections,
    selected,
)
from totalanvi.training.results.differential.hypotheses import ChangeTest
from totalanvi.training.results.differential.options import Criteria, Mode, Pseudocounts
from totalanvi.training.results.differential.sampling import Sampling
from totalanvi.training.results.expression import ExpressionOptions

__all__ = ["DifferentialMethods"]

_FIELDS = ("rna", "protein")

Array = npt.NDArray[Any]


class DifferentialMethods(BaseModel):
    """What differs between groups of cells."""

    def differential_expression(
        self,
        adata: Data | None = None,
        groupby: str | None = None,
        group1: Any | Iterable[Any] | None = None,
        group2: Any | None = None,
        idx1: Selection | None = None,
        idx2: Selection | None = None,
        mode: Mode = "change",
        delta: float | None = 0.25,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Batches | None = None,
        batchid2: Batches | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
        protein_prior_count: float = 0.1,
        scale_protein: bool = False,
        sample_protein_mixing: bool = False,
        include_protein_background: bool = False,
        use_field: Sequence[str] | None = None,
        pseudocounts: float | None = 1e-5,
        *,
        subset_idx: Selection | None = None,
        n_samples_overall: int | None = 5000,
        use_permutation: bool = False,
        m_permutation: int = 10_000,
        change_fn: Callable[[Array, Array, float], Array] | Literal["log-fold"] | None = None,
        m1_domain_fn: Callable[[Array], tuple[Array, Array]] | None = None,
        threshold_counts: float = 0.01,
        test_mode: Literal["two", "three"] = "three",
        cred_interval_lvls: Sequence[float] | Array | None = None,
    ) -> pd.DataFrame:
        r"""Genes and proteins that differ between groups of cells, from draws of their denoised expression.

        With :math:`h_1, h_2` the expression of a feature in one draw of either group, the mode ``"change"`` tests

        .. math::

            r = \log_2 (h_1 + ε) - \log_2 (h_2 + ε), \qquad p_{de} = \max\{p(r \ge δ),\; p(r < -δ)\},

        and ``"vanilla"`` compares :math:`p(h_1 > h_2)` with :math:`p(h_1 \le h_2)`. Memory is that of the draws of two
        groups, (draws, features), whatever the number of cells. The draws follow torch's global seed.

        Parameters
        ----------
        adata
            Cells with the reference's features and columns; the reference itself by default. It is only read.
        groupby
            Column of ``obs`` with the groups; of a MuData, in the RNA modality, the whole object, or the proteins.
        group1
            Group, or groups, each of which is compared; all by default.
        group2
            Group to compare with; by default, all cells that are not in the first.
        idx1, idx2
            Groups chosen otherwise, instead of by a column: positions of cells, a mask, or a query of ``obs`` as
            `pandas.DataFrame.query` takes it. ``idx2`` is all other cells by default.
        mode
            ``"change"`` or ``"vanilla"``.
        delta
            δ, the smallest log2 fold change that counts. `None` learns it from the changes of the genes, or of the
            proteins where they are alone.
        batch_size
            Cells in a mini-batch, 256 by default.
        all_stats
            Tell means of the raw counts as well.
        batch_correction
            Decode both groups as the same batches, so that what differs does so because of the cells. Otherwise each
            cell is decoded as its own batch.
        batchid1, batchid2
            Batches, by name or code, to decode either group as; all by default. The same for both, or none in common.
            With correction only.
        fdr_target
            Expected share of false ones among the features called different.
        silent
            Show no progress.
        protein_prior_count
            ε of the proteins, in counts; with ``scale_protein``, in shares, where the default is much.
        scale_protein, sample_protein_mixing, include_protein_background
            As in `get_normalized_expression`.
        use_field
            ``["rna", "protein"]``, or one of them.
        pseudocounts
            ε of the genes, on the scale of ρ. `None` learns it from genes that are not expressed.
        subset_idx
            Cells that take part, chosen like ``idx1``; all others are left out, of the rest too.
        n_samples_overall
            Draws for each group; 5000 for `None`.
        use_permutation
            Compare random pairs of draws, instead of each draw once.
        m_permutation
            How many pairs.
        change_fn
            Instead of the log fold change: a function of both expressions, (pairs, features), and ε, that gives the
            change, (pairs, features). Called for genes and for proteins.
        m1_domain_fn
            Instead of δ: a function of changes that says which count as up, and which as down, both
            (pairs, features), bool.
        threshold_counts
            Mean count below which a gene is not expressed in a group, for ``pseudocounts=None``.
        test_mode
            ``"three"`` takes the likelier of up and down, ``"two"`` adds them.
        cred_interval_lvls
            Levels of credible intervals of the change to tell.

        Returns
        -------
        pandas.DataFrame
            A row per feature, ``GENE`` or ``PROTEIN_protein``, the likeliest to differ first; comparisons one after
            the other, named in ``comparison``, ``group1`` and ``group2`` unless ``idx1`` chose the groups. Columns:

            - ``proba_de``, ``proba_not_de``, and the log of their ratio, ``bayes_factor``; in the mode ``"vanilla"``
              ``proba_m1`` for higher in the first group, ``proba_m2``, ``bayes_factor``;
            - ``scale1``, ``scale2``: mean expression, ρ of genes, denoised counts of proteins;
            - ``pseudocounts``, ``delta``: what was used for this feature (``delta`` is NaN with ``m1_domain_fn``);
            - ``lfc_mean``, ``lfc_median``, ``lfc_std``, ``lfc_min``, ``lfc_max``: the change, in log2, with a
              thousandth of the genes' ε; ``lfc_confidence_interval_LEVEL_min`` and ``…_max``, shortest intervals;
            - ``raw_mean1``, ``raw_mean2``, ``non_zeros_proportion1``, …, ``raw_normalized_mean1``, …: of the counts,
              the last per 10,000 of a cell, and NaN for proteins. A protein's are over the cells that measured it;
            - ``is_de_fdr_0.05``: different, at this expected share of false ones.

        Raises
        ------
        ArgumentError
            For a column or group that is not there, groups without cells or with cells in common, and any argument
            out of range.
        RegistrationError, CountsError
            As `get_latent_representation`.

        Examples
        --------
        >>> table = model.differential_expression(groupby="cell_type", group1="B", group2="T")  # doctest: +SKIP
        >>> table.query("`is_de_fdr_0.05` and lfc_median > 0").index  # doctest: +SKIP
        >>> model.differential_expression(idx1="cell_type == 'B'", batch_correction=True)  # doctest: +SKIP

        References
        ----------
        Gayoso, Steier et al., Nature Methods 18 (2021), Methods, "Differential expression". Boyeau, Lopez, Regier,
        Gayoso, Jordan, Yosef: Deep generative models for detecting differential expression in single cells. MLCB
        (2019). Lopez, Regier, Cole, Jordan, Yosef, Nature Methods 15 (2018): the mode ``"vanilla"``.
        """
        require_flags(batch_correction=batch_correction, use_permutation=use_permutation, silent=silent)
        cells, _ = self._cells_of(adata, None)
        source = self.adata if adata is None else adata
        assert source is not None
        comparisons = _comparisons(
            Columns.of(source, self._setup).table(), groupby, group1, group2, idx1, idx2, subset_idx
        )
        fields = _fields(use_field)
        genes = self.registry.genes if "rna" in fields else ()
        proteins = self.registry.proteins if "protein" in fields else ()
        sampling = Sampling(
            expression=ExpressionOptions(
                genes=np.arange(len(genes)),
                proteins=np.arange(len(proteins)),
                sample_protein_mixing=sample_protein_mixing,
                scale_protein=scale_protein,
                include_protein_background=include_protein_background,
            ),
            policy=batch_policy(self.registry, batch_correction, batchid1, batchid2),
            n_draws=as_whole("n_samples_overall", 5000 if n_samples_overall is None else n_samples_overall, 1),
            n_pairs=as_whole("m_permutation", m_permutation, 1) if use_permutation else None,
            batch_size=cells_in_batch(batch_size),
        )
        criteria = Criteria(
            mode=mode,
            pseudocounts=Pseudocounts(pseudocounts, protein_prior_count, threshold_counts),
            change=ChangeTest(delta, test_mode, change_fn, m1_domain_fn, cred_interval_lvls),
            fdr_target=fdr_target,
            all_stats=all_stats,
        )
        if proteins:
            warn_of_unmeasured(self.registry, sampling.policy, cells.batch[_compared(comparisons)])
        compare = Comparer(self.module, cells, genes, proteins, sampling, criteria)
        return pd.concat([compare(each) for each in track(comparisons, "Differential expression", disable=silent)])


def _comparisons(
    obs: pd.DataFrame,
    groupby: str | None,
    group1: Any,
    group2: Any,
    idx1: Selection | None,
    idx2: Selection | None,
    subset_idx: Selection | None,
) -> list[Comparison]:
    within = None if subset_idx is None else selected(subset_idx, obs, "subset_idx")
    if idx1 is not None:
        named = {"groupby": groupby, "group1": group1, "group2": group2}
        if given := [argument for argument, value in named.items() if value is not None]:
            raise ArgumentError(
                f"{', '.join(given)}: expected none beside idx1, which chooses the groups, found both; leave one "
                "of them out."
            )
        return compare_selections(obs, idx1, idx2, within)
    if idx2 is not None:
        raise ArgumentError("idx1: expected the first group with idx2, found none; give it.")
    if groupby is None:
        raise ArgumentError("groupby: expected a column of obs, or idx1, found neither; say which cells to compare.")
    return compare_groups(obs, groupby, group1, group2, within)


def _compared(comparisons: list[Comparison]) -> npt.NDArray[np.bool_]:
    """Whether each cell takes part in any comparison, (cells,)."""
    takes_part = np.zeros_like(comparisons[0].first)
    for comparison in comparisons:
        takes_part |= comparison.first | comparison.second
    return takes_part


def _fields(use_field: Sequence[str] | None) -> Sequence[str]:
    if use_field is None:
        return _FIELDS
    wanted = [use_field] if isinstance(use_field, str) else as_names("use_field", use_field, "rna, protein or both")
    if not wanted:
        raise ArgumentError("use_field: expected 'rna', 'protein' or both, found an empty list; name one.")
    return [as_choice("use_field", field, _FIELDS) for field in wanted]
