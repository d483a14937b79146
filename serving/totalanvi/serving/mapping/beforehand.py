"""What can be said of a query before any of its cells is mapped: how its names match, and what its user should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.alignment.messages import overlooked_warnings
from totalanvi.serving.alignment.protein_names import protein_names
from totalanvi.serving.alignment.report import AlignmentReport
from totalanvi.serving.features import Reference
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.outputs.imputation_notes import doubtful_proteins, imputation_messages
from totalanvi.serving.outputs.provenance import provenance
from totalanvi.serving.outputs.unmapped_note import without_rna_messages
from totalanvi.serving.queries.source import QuerySource

__all__ = ["Preview", "aligner_for", "counts_notes", "measured_doubtful", "messages_before", "preview", "provenance_of"]

_TRIED_CELLS = 256
"""Cells whose counts are looked at: normalised values show in the first of them."""


@dataclass(frozen=True)
class Preview:
    """A query, before it is mapped.

    Parameters
    ----------
    n_cells, n_without_rna
        Cells of the query, and those among them that cannot be mapped.
    rna, proteins
        Where counts are read from, such as ``"layer 'counts'"``; None for no proteins.
    alignment
        How the query's features match, with short lists of names.
    messages
        What the user should know.
    """

    n_cells: int
    n_without_rna: int
    rna: str
    proteins: str | None
    alignment: AlignmentReport
    messages: tuple[str, ...]


def preview(reference: Reference, source: QuerySource, options: MapOptions, gene_column: str | None = None) -> Preview:
    """Match a query's names, look at the counts of its first cells, and say what came of it.

    Parameters
    ----------
    reference
        What it is to be mapped to.
    source
        The query.
    options
        How it is to be mapped.
    gene_column
        See `totalanvi.serving.alignment.align.Aligner`.

    Raises
    ------
    ServingError
        When the query cannot be mapped, as far as can be told by now.

    Examples
    --------
    >>> with open_query("query.h5ad") as source:  # doctest: +SKIP
    ...     preview(reference, source, MapOptions()).alignment.gene_weight
    0.98
    """
    aligner = aligner_for(reference, source, gene_column, {})
    source.read(0, _TRIED_CELLS)
    return Preview(
        n_cells=len(source),
        n_without_rna=source.n_without_rna,
        rna=source.rna_place,
        proteins=source.protein_place,
        alignment=aligner.report.shortened(),
        messages=tuple(messages_before(reference, source, aligner, options)),
    )


def aligner_for(
    reference: Reference, source: QuerySource, gene_column: str | None, meanings: Mapping[str, str]
) -> Aligner:
    """Match a query's features to a reference's; see `totalanvi.serving.alignment.align.Aligner`."""
    knows = protein_names(reference.features.proteins).find
    overlooked = source.overlooked(lambda name: name in meanings or bool((found := knows(name)) and found.places))
    return Aligner(
        reference.features,
        source.gene_names,
        source.protein_names,
        gene_columns=source.gene_columns,
        gene_column=gene_column,
        feature_map=meanings,
        warnings=overlooked_warnings(overlooked) if reference.features.proteins else (),
    )


def messages_before(reference: Reference, source: QuerySource, aligner: Aligner, options: MapOptions) -> list[str]:
    """Say what makes a query's results less good than they might be."""
    messages = list(aligner.warnings)
    messages += without_rna_messages(source.n_without_rna, len(source))
    return [*messages, *imputation_messages(reference.info(), options, aligner.report.proteins.missing_names)]


def measured_doubtful(reference: Reference, aligner: Aligner, options: MapOptions) -> list[str]:
    """Return those of a query's proteins that RNA alone cannot predict; none where none are imputed."""
    missing = aligner.report.proteins.missing_names
    return doubtful_proteins(reference.info(), missing) if options.impute else []


def provenance_of(reference: Reference, source: QuerySource, aligner: Aligner, options: MapOptions) -> dict[str, Any]:
    """Say where a query's results come from; see `totalanvi.serving.outputs.provenance.provenance`."""
    return provenance(reference.info(), options, aligner.report, source.rna_place, source.protein_place)


def counts_notes(source: QuerySource, layer: str | None) -> tuple[str, ...]:
    """Tell where RNA counts were found when that is not X, and nobody named the place."""
    if layer is not None or source.rna_place == "X":
        return ()
    return (f"RNA counts were read from {source.rna_place}, where they were found; --layer names another place.",)
