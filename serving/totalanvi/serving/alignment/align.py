"""From a query's features to the model's: which column is which, what is missing, and whether that is acceptable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.alignment.controls import CONTROLS
from totalanvi.serving.alignment.feature_map import places_of
from totalanvi.serving.alignment.gene_names import gene_names
from totalanvi.serving.alignment.genes import QueryGenes, match_genes, share_of
from totalanvi.serving.alignment.matching import match
from totalanvi.serving.alignment.messages import alignment_notes, alignment_warnings, map_warnings
from totalanvi.serving.alignment.protein_names import protein_names
from totalanvi.serving.alignment.renumber import TakeColumns
from totalanvi.serving.alignment.report import AlignmentReport, feature_match
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.listing import examples
from totalanvi.serving.queries.query import Query

__all__ = ["Aligner", "FeatureIndex"]


class FeatureIndex:
    """A reference's features, ready to be looked up: shared by the queries of one request.

    Parameters
    ----------
    reference
        The features.
    """

    def __init__(self, reference: ReferenceFeatures) -> None:
        self.genes = gene_names(reference.genes, reference.gene_symbols, reference.ensembl_ids)
        self.proteins = protein_names(reference.proteins)
        self.gene_share = np.asarray(reference.gene_share, dtype=np.float64)
        self.gene_weight = np.asarray(reference.gene_weight, dtype=np.float64)


class Aligner:
    """Bring the cells of one query into the order of a reference's features.

    Which features a query has is judged once, from its names (see `totalanvi.serving.alignment.matching`); `align` then
    treats every cell alone.

    Parameters
    ----------
    reference
        The features to align to.
    gene_names
        Of the query (query genes,): its ``var_names``.
    protein_names
        Of the query (query proteins,).
    gene_columns
        What else the query calls its genes: columns of ``var`` (query genes,), by name.
    gene_column
        The column to match genes by, or ``"var_names"``; None takes what matches best.
    feature_map
        What features of the query are called in the reference, by their names in the query, empty to leave one out; it
        goes before all else.
    index
        Of `reference`, where there is one already.
    warnings
        What else the user should know of the query's features.

    Attributes
    ----------
    genes, proteins : Matching
        Which query feature has which place in the model.
    warnings, notes : tuple of str
        What the user should know, and what was done that is no reason to worry.

    Raises
    ------
    AlignmentError
        When no gene matches, too few do, the query is of another species, or the map or the column is not usable.

    Examples
    --------
    >>> features = {"genes": ("CD3E", "MS4A1"), "labels": ("T", "B"), "gene_share": (0.75, 0.25)}
    >>> thresholds = {"gene_weight_warn": 0.8, "gene_weight_refuse": 0.2}
    >>> reference = ReferenceFeatures(**features, gene_weight=(0.9, 0.1), thresholds=thresholds)
    >>> Aligner(reference, ["MALAT1", "CD3E"]).report.gene_weight
    0.9
    """

    def __init__(
        self,
        reference: ReferenceFeatures,
        gene_names: Sequence[str],
        protein_names: Sequence[str] = (),
        *,
        gene_columns: Mapping[str, Sequence[str]] | None = None,
        gene_column: str | None = None,
        feature_map: Mapping[str, str] | None = None,
        index: FeatureIndex | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        index = index or FeatureIndex(reference)
        genes, proteins = index.genes, index.proteins
        self._reference = reference
        self._weight = index.gene_weight
        mapped_genes, mapped_proteins = places_of(feature_map or {}, genes.own_place, proteins.own_place)
        query = QueryGenes(gene_names, gene_columns or {})
        matched = match_genes(genes, query, gene_column, mapped_genes, self._weight)
        self.genes, self._gene_names_from = matched.matching, matched.column
        self.proteins = match(
            protein_names,
            [mapped_proteins.get(name) or proteins.find(name) for name in protein_names],
            sums_equals=False,
        )
        self._take_columns = TakeColumns(self.genes.columns, len(reference.genes))
        self._coverage = share_of(self.genes, index.gene_share)
        self._gene_weight = share_of(self.genes, self._weight)
        # Controls may be counted in cells whose proteins were not measured.
        self._panel = np.array([reason not in CONTROLS for reason in self.proteins.reasons], dtype=bool)
        self.warnings = warnings
        self.warnings += alignment_warnings(reference, self.genes, self.proteins, self._gene_weight, matched.foreign)
        if feature_map:
            of_genes = {*gene_names, *self.genes.names}
            used = (of_genes & mapped_genes.keys()) | (mapped_proteins.keys() & set(protein_names))
            self.warnings += map_warnings(feature_map, gene_names, of_genes.union(protein_names), used)
        self.notes = alignment_notes(reference, self.genes, self.proteins, matched.column)
        self._require_enough(gene_names, matched.foreign)

    @cached_property
    def report(self) -> AlignmentReport:
        """What was matched, how, and what it is worth."""
        return AlignmentReport(
            genes=feature_match(self._reference.genes, [self.genes], importance=self._weight),
            proteins=feature_match(self._reference.proteins, [self.proteins]),
            gene_names=self._gene_names_from,
            gene_coverage=self._coverage,
            gene_weight=self._gene_weight,
            warnings=self.warnings,
            notes=self.notes,
        )

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
        rna = self._take_columns(query.rna)
        known = self.proteins.columns >= 0
        targets = self.proteins.columns[known]
        protein = np.zeros((len(query), len(self._reference.proteins)), dtype=np.float32)
        for column, place in zip(np.flatnonzero(known), targets, strict=True):
            protein[:, place] += query.proteins[:, column]
        measured = np.zeros(protein.shape, dtype=bool)
        has_panel = query.protein_measured & query.proteins[:, self._panel].any(axis=1)
        measured[:, targets] = has_panel[:, np.newaxis]
        return AlignedCells(
            rna=rna, library=self.library_of(rna), protein=protein, measured=measured, present=self.present
        )

    @cached_property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which of the model's genes the query has, (model genes,)."""
        present = np.zeros(len(self._reference.genes), dtype=bool)
        present[self.genes.columns[self.genes.columns >= 0]] = True
        return present

    def library_of(self, rna: sparse.csr_matrix) -> npt.NDArray[np.float32]:
        """Return the total count that cells would have with all of the model's genes, (cells,).

        Parameters
        ----------
        rna
            Aligned counts (cells, model genes).
        """
        # Whole numbers add up exactly in float64, in whatever order the query has its genes.
        totals: npt.NDArray[np.float64] = np.asarray(rna.sum(axis=1, dtype=np.float64)).ravel()
        return (totals / self._coverage).astype(np.float32)

    def _require_enough(self, gene_names: Sequence[str], foreign: str | None) -> None:
        reference, n_matched = self._reference, len(self.genes.places)
        refuse = reference.thresholds.gene_weight_refuse
        enough = n_matched > 0 and self._coverage > 0 and self._gene_weight >= refuse
        if enough:
            return
        if foreign is not None:
            raise AlignmentError(foreign)
        if n_matched == 0:
            raise AlignmentError(
                f"Expected genes of the reference, such as {examples(reference.genes)}; found no gene in common with "
                f"the query, which has {examples(gene_names)}. Name the query's genes (var_names, or a column of var) "
                f"by {_known_names(reference)} as the reference does, or say what is what in a table (feature_map=, "
                f"--feature-map)."
            )
        missing = self.report.genes.missing_names
        raise AlignmentError(
            f"Expected genes that carry at least {refuse:.0%} of what the model has learned from genes; found too few "
            f"in common: {n_matched} of {len(reference.genes)} genes, which carry {self._gene_weight:.1%}. Missing "
            f"are {examples(missing)}. Map a query with all of its genes, not a selection."
        )


def _known_names(reference: ReferenceFeatures) -> str:
    return "symbol" if reference.ensembl_ids is None else "symbol or Ensembl id"
