"""From a query's features to the model's: which column is which, what is missing, and whether that is acceptable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.query import Query

__all__ = ["Aligner", "AlignmentReport", "FeatureMatch"]

MAX_LISTED = 20
"""How many missing or extra names a report lists; the counts are of all."""

Columns = npt.NDArray[np.intp]
"""For each query feature its place in the model (features,), -1 for none."""

_ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
_ENSEMBL_VERSION = re.compile(r"\.\d+$")


class FeatureMatch(BaseModel):
    """How many features the query and the reference have in common, and some that they have not."""

    model_config = ConfigDict(frozen=True)

    matched: int
    missing: int
    """Of the reference's features, how many the query lacks."""
    extra: int
    """Of the query's features, how many the reference does not know; they are ignored."""
    missing_names: tuple[str, ...]
    extra_names: tuple[str, ...]


class AlignmentReport(BaseModel):
    """What alignment found; JSON-able (`model_dump`)."""

    model_config = ConfigDict(frozen=True)

    genes: FeatureMatch
    proteins: FeatureMatch
    matched_by: Literal["symbol", "ensembl"]
    gene_coverage: float
    """Share of the reference's average counts that the matched genes carry, in [0, 1]."""
    warnings: tuple[str, ...]


class Aligner:
    """Bring the cells of one query into the order of a reference's features.

    Genes are matched by exact name, or by Ensembl id (without its version) when that covers more of the reference;
    proteins by name whatever its case. Which genes a query has is judged once, from its names; `align` then treats
    every cell alone.

    Parameters
    ----------
    reference
        The features to align to.
    gene_names
        Of the query (query genes,).
    protein_names
        Of the query (query proteins,).

    Attributes
    ----------
    report : AlignmentReport
        What was matched, and warnings.

    Raises
    ------
    AlignmentError
        When no gene matches, too few do, or two of the query's features match the same one of the reference.

    Examples
    --------
    >>> reference = ReferenceFeatures(genes=("CD3E", "MS4A1"), labels=("T", "B"), gene_share=(0.75, 0.25))
    >>> Aligner(reference, ["MALAT1", "CD3E"]).report.gene_coverage
    0.75
    """

    def __init__(
        self, reference: ReferenceFeatures, gene_names: Sequence[str], protein_names: Sequence[str] = ()
    ) -> None:
        share = np.asarray(reference.gene_share, dtype=np.float64)
        self._n_genes = len(reference.genes)
        self._n_proteins = len(reference.proteins)
        self._gene_columns, matched_by = _match_genes(reference, gene_names, share)
        self._protein_columns = _match(protein_names, _unambiguous(reference.proteins, str.casefold), str.casefold)
        _require_one_to_one("protein", protein_names, self._protein_columns)
        self._coverage = _coverage(self._gene_columns, share)
        self.report = AlignmentReport(
            genes=_feature_match(reference.genes, gene_names, self._gene_columns, importance=share),
            proteins=_feature_match(reference.proteins, protein_names, self._protein_columns),
            matched_by=matched_by,
            gene_coverage=self._coverage,
            warnings=tuple(_warnings(reference, self._coverage, protein_names, self._protein_columns)),
        )
        self._require_enough(reference, gene_names)

    def align(self, query: Query) -> AlignedCells:
        """Align a block of the query's cells.

        Parameters
        ----------
        query
            Cells (cells, query genes) with the features that this aligner was made for. Cells without RNA come out with
            no counts; leave them out before.

        Returns
        -------
        AlignedCells
            The same cells (cells, model genes).
        """
        rna = _take_columns(query.rna, self._gene_columns, self._n_genes)
        # Whole numbers add up exactly in float64, in whatever order the query has its genes.
        totals = np.asarray(rna.sum(axis=1, dtype=np.float64)).ravel()
        known = self._protein_columns >= 0
        targets = self._protein_columns[known]
        protein = np.zeros((len(query), self._n_proteins), dtype=np.float32)
        protein[:, targets] = query.proteins[:, known]
        measured = np.zeros(protein.shape, dtype=bool)
        measured[:, targets] = query.protein_measured[:, np.newaxis]
        return AlignedCells(
            rna=rna, library=(totals / self._coverage).astype(np.float32), protein=protein, measured=measured
        )

    def _require_enough(self, reference: ReferenceFeatures, gene_names: Sequence[str]) -> None:
        if self.report.genes.matched == 0:
            raise AlignmentError(
                f"Expected genes of the reference, such as {_examples(reference.genes)}; found no gene in common with "
                f"the query, which has {_examples(gene_names)}. Name the query's genes (var_names) by "
                f"{_known_names(reference)} as the reference does."
            )
        refuse = reference.thresholds.gene_coverage_refuse
        if self._coverage < refuse or self._coverage == 0:
            raise AlignmentError(
                f"Expected genes that carry at least {refuse:.0%} of the reference's counts; found too few in common: "
                f"{self.report.genes.matched} of {self._n_genes} genes, which carry {self._coverage:.1%}. Missing are "
                f"{_examples(self.report.genes.missing_names)}. Map a query with all of its genes, not a selection."
            )


def _match_genes(
    reference: ReferenceFeatures, gene_names: Sequence[str], share: npt.NDArray[np.float64]
) -> tuple[Columns, Literal["symbol", "ensembl"]]:
    by_name = _match(gene_names, {name: place for place, name in enumerate(reference.genes)}, str)
    by_id = _match(gene_names, _unambiguous(_ensembl_ids(reference), _without_version), _without_version)
    if _coverage(by_id, share) > _coverage(by_name, share):
        _require_one_to_one("gene", gene_names, by_id)
        return by_id, "ensembl"
    return by_name, "symbol"


def _ensembl_ids(reference: ReferenceFeatures) -> list[str | None]:
    """Return the id of each gene (genes,), which may be its name."""
    ids = reference.ensembl_ids or (None,) * len(reference.genes)
    return [
        known or (name if _ENSEMBL_ID.fullmatch(name) else None)
        for known, name in zip(ids, reference.genes, strict=True)
    ]


def _without_version(name: str) -> str:
    return _ENSEMBL_VERSION.sub("", name)


def _unambiguous(names: Sequence[str | None], key: Callable[[str], str]) -> dict[str, int]:
    """Return the place of each name under its key, leaving out keys that two names share."""
    keys = [None if name is None else key(name) for name in names]
    counts = Counter(keys)
    return {known: place for place, known in enumerate(keys) if known is not None and counts[known] == 1}


def _match(names: Sequence[str], places: Mapping[str, int], key: Callable[[str], str]) -> Columns:
    return np.array([places.get(key(name), -1) for name in names], dtype=np.intp)


def _coverage(columns: Columns, share: npt.NDArray[np.float64]) -> float:
    # In model order, so that the order of the query's genes does not show in the last digit.
    return min(1.0, float(share[np.unique(columns[columns >= 0])].sum()))


def _require_one_to_one(kind: str, names: Sequence[str], columns: Columns) -> None:
    repeated = pd.Series(columns[columns >= 0]).duplicated(keep=False)
    if not repeated.any():
        return
    matched = [name for name, column in zip(names, columns, strict=True) if column >= 0]
    examples = [name for name, again in zip(matched, repeated, strict=True) if again]
    raise AlignmentError(
        f"Expected each {kind} of the reference at most once in the query; found {_examples(sorted(examples))} for the "
        f"same one. Keep one of them, or sum their counts."
    )


def _take_columns(rna: sparse.csr_matrix, columns: Columns, n_genes: int) -> sparse.csr_matrix:
    """Renumber the columns of a canonical CSR, dropping those that map to -1; costs per stored entry."""
    targets = columns[rna.indices]
    kept = targets >= 0
    pointers = np.concatenate([[0], np.cumsum(kept)])[rna.indptr]
    aligned = sparse.csr_matrix(
        (rna.data[kept], targets[kept].astype(np.int32), pointers.astype(rna.indptr.dtype)),
        shape=(rna.shape[0], n_genes),
    )
    aligned.sort_indices()
    return aligned


def _feature_match(
    reference: Sequence[str],
    query: Sequence[str],
    columns: Columns,
    importance: npt.NDArray[np.float64] | None = None,
) -> FeatureMatch:
    found = np.zeros(len(reference), dtype=bool)
    found[columns[columns >= 0]] = True
    missing = np.flatnonzero(~found)
    if importance is not None:
        missing = missing[np.argsort(-importance[missing], kind="stable")]
    extra = np.flatnonzero(columns < 0)
    return FeatureMatch(
        matched=int(found.sum()),
        missing=len(missing),
        extra=len(extra),
        missing_names=tuple(reference[place] for place in missing[:MAX_LISTED]),
        extra_names=tuple(query[place] for place in extra[:MAX_LISTED]),
    )


def _warnings(
    reference: ReferenceFeatures, coverage: float, protein_names: Sequence[str], protein_columns: Columns
) -> list[str]:
    warnings = []
    warn = reference.thresholds.gene_coverage_warn
    if coverage < warn:
        warnings.append(
            f"The query's genes carry {coverage:.1%} of the reference's counts, less than {warn:.0%}: labels and "
            f"proteins will be less certain. Map a query with all of its genes, if there is one."
        )
    if len(protein_names) and reference.proteins and not (protein_columns >= 0).any():
        warnings.append(
            f"None of the query's {len(protein_names)} proteins, such as {_examples(protein_names)}, is one of the "
            f"reference's, such as {_examples(reference.proteins)}: mapped from RNA alone."
        )
    return warnings


def _known_names(reference: ReferenceFeatures) -> str:
    return "symbol" if reference.ensembl_ids is None else "symbol or Ensembl id"


def _examples(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:3])
