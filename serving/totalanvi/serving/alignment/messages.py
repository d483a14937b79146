"""What a user is told of how features were matched, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from totalanvi.serving.alignment.controls import CONTROLS
from totalanvi.serving.alignment.genes import VAR_NAMES
from totalanvi.serving.alignment.matching import Matching
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.listing import examples

if TYPE_CHECKING:
    from totalanvi.serving.queries.overlooked import Overlooked

__all__ = ["alignment_notes", "alignment_warnings", "map_warnings", "overlooked_warnings"]


def alignment_warnings(
    reference: ReferenceFeatures, genes: Matching, proteins: Matching, gene_weight: float, foreign: str | None
) -> tuple[str, ...]:
    """Say what makes results less good than they might be.

    Parameters
    ----------
    reference
        What was aligned to.
    genes, proteins
        How the query's were matched.
    gene_weight
        What its genes carry, in [0, 1].
    foreign
        Why only what the user's map says was trusted, where that is so.
    """
    warnings = [] if foreign is None else [f"{foreign} Of {len(genes.names)} genes, {len(genes.places)} are named."]
    warn = reference.thresholds.gene_weight_warn
    if gene_weight < warn:
        warnings.append(
            f"The query's genes carry {gene_weight:.1%} of what the model has learned from genes, less than "
            f"{warn:.0%}: labels and proteins will be less certain. Map a query with all of its genes, if there is one."
        )
    unknown = [
        name for name, reason in zip(proteins.names, proteins.reasons, strict=True) if reason in (None, "ambiguous")
    ]
    if unknown and reference.proteins and not len(proteins.places):
        warnings.append(
            f"None of the query's {len(unknown)} proteins, such as {examples(unknown)}, is one of the reference's, "
            f"such as {examples(reference.proteins)}: mapped from RNA alone. Say what is what in a table "
            f"(feature_map=, --feature-map) where names differ."
        )
    for kind, matching, known in (("gene", genes, reference.genes), ("protein", proteins, reference.proteins)):
        unclear = [
            f"{matching.names[position]!r} ({' or '.join(known[place] for place in places)})"
            for position, (reason, places) in matching.left_out.items()
            if reason == "ambiguous"
        ]
        if unclear:
            warnings.append(
                f"{len(unclear)} {kind} names do not tell one feature from another and were left out: "
                f"{', '.join(unclear[:5])}. Say which is meant in a table (feature_map=, --feature-map)."
            )
    return tuple(warnings)


def map_warnings(
    feature_map: Mapping[str, str], gene_names: Sequence[str], in_query: Set[str], used: Set[str]
) -> tuple[str, ...]:
    """Say what of the user's map was of no use.

    Parameters
    ----------
    feature_map
        Reference name by query name.
    gene_names
        Of the query.
    in_query
        All names that the query has, of genes and proteins.
    used
        Those names of the map that were genes in query and reference, or proteins in both.
    """
    found = [name for name in feature_map if name in in_query]
    if not found:
        return (
            f"None of the {len(feature_map)} names that the feature map begins with, such as "
            f"{examples(list(feature_map))}, is one of the query's, such as {examples(gene_names)}: the map was of no "
            "use. Put the query's names first.",
        )
    crossed = [f"{name!r} as {feature_map[name]!r}" for name in found if name not in used]
    if not crossed:
        return ()
    return (
        f"{len(crossed)} lines of the feature map call a gene a protein, or a protein a gene, and were not used: "
        f"{', '.join(crossed[:3])}. A gene of the query can only be a gene of the reference.",
    )


def overlooked_warnings(overlooked: Sequence[Overlooked]) -> tuple[str, ...]:
    """Say where proteins may be that were not read.

    Parameters
    ----------
    overlooked
        See `totalanvi.serving.queries.source.QuerySource.overlooked`.

    Examples
    --------
    >>> overlooked_warnings([])
    ()
    """
    if not overlooked:
        return ()
    places = " or ".join(place.said for place in overlooked)
    options = [place.option for place in overlooked if place.named]
    if options:
        cure = (
            f"Say where they are (proteins={options[0]!r}, --proteins {quote(options[0])}), or that there are none "
            "('none')."
        )
    else:
        cure = (
            "Make it a DataFrame in obsm['protein_expression'] with the proteins' names as columns, or say that there "
            "are none (proteins='none', --proteins none)."
        )
    return (
        f"No proteins were read, as there are none under the usual names; but {places} looks like counts of proteins. "
        f"{cure}",
    )


def alignment_notes(
    reference: ReferenceFeatures, genes: Matching, proteins: Matching, gene_names: str
) -> tuple[str, ...]:
    """Say what was done with names that is no reason to worry.

    Parameters
    ----------
    reference, genes, proteins
        See `alignment_warnings`.
    gene_names
        Where gene names were read.
    """
    notes = []
    if gene_names != VAR_NAMES:
        notes.append(f"Gene names were read in the column {gene_names!r} of var, where they match best.")
    for kind, matching, known in (("gene", genes, reference.genes), ("protein", proteins, reference.proteins)):
        n_columns = np.bincount(matching.columns[matching.columns >= 0], minlength=len(known))
        repeated = [known[place] for place in np.flatnonzero(n_columns > 1)]
        if repeated:
            notes.append(
                f"{n_columns[n_columns > 1].sum()} columns were summed into {len(repeated)} {kind}s, such as "
                f"{examples(repeated)}: they are the same feature."
            )
        differently = [
            f"{name!r} as {known[place]!r}"
            for name, place, way in zip(matching.names, matching.columns, matching.ways, strict=True)
            if way in ("spelling", "decoration", "suffix")
        ]
        if differently:
            notes.append(
                f"{len(differently)} {kind}s were matched although their names are written differently, such as "
                f"{', '.join(differently[:3])}."
            )
    for reason in CONTROLS:
        names = [name for name, why in zip(proteins.names, proteins.reasons, strict=True) if why == reason]
        if names:
            notes.append(f"{len(names)} {reason}s were left out, such as {examples(names)}.")
    return tuple(notes)
