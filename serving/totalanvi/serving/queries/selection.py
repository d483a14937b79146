"""Which part of a query holds what: the layer with RNA counts, the modality or ``obsm`` entry with proteins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from totalanvi.formats.counts_place import Place, find_counts, named_place
from totalanvi.formats.errors import FormatError
from totalanvi.formats.tenx import PROTEIN_KEY
from totalanvi.serving.errors import CountsError, QueryError
from totalanvi.serving.listing import quoted
from totalanvi.serving.queries.matrices import Matrix
from totalanvi.serving.queries.tables import Table

__all__ = ["NO_PROTEINS", "ProteinTable", "choose_place", "choose_modalities", "choose_proteins"]

NO_PROTEINS = "none"
"""Given for `proteins`, this maps without proteins even when the query has some."""

RNA_MODALITIES = ("rna", "gex")
PROTEIN_MODALITIES = ("prot", "protein", "adt", "ab")


@dataclass(frozen=True, eq=False)
class ProteinTable:
    """Protein names (proteins,), their values (cells, proteins), and how messages call the place."""

    names: tuple[str, ...]
    matrix: Matrix
    where: str


def choose_place(table: Table, layer: str | None, modality: str | None = None) -> Place:
    """Return where to read counts: the place that is named, or the only one that holds any.

    Parameters
    ----------
    table
        What is chosen from.
    layer
        A layer, ``"X"`` or ``"raw"``; None finds the place.
    modality
        Name of the modality of proteins, where these are chosen, whose place cannot be named.

    Raises
    ------
    QueryError
        When the place is not there.
    CountsError
        When there are several and none, or more than one, holds counts.
    """
    if not table.places:
        raise QueryError(
            "Expected raw counts in X, a layer or raw; found that the query has no X, no layers and no raw. "
            "Add them, in X or in a layer (layer=, --layer)."
        )
    if layer is not None:
        named = named_place(layer, table.places)
        if named is None:
            found = quoted([place.layer for place in table.places if place.kind == "layer"], when_empty="no layers")
            raise QueryError(
                f"Expected a layer {layer!r}; found {found}. "
                f"Name one of these, or none to find the raw counts (layer=, --layer)."
            )
        return named
    of, cure = "", "--layer NAME, layer="
    if modality is not None:
        of, cure = f" of modality {modality!r}", "keep it in X alone"
    try:
        return find_counts({place: table.matrix(place) for place in table.places}, of, cure)
    except FormatError as error:
        raise CountsError(str(error)) from error


def choose_proteins(table: Table, proteins: str | None, among_genes: ProteinTable | None = None) -> ProteinTable | None:
    """Return the ``obsm`` entry of an AnnData that holds proteins; None to map without.

    Parameters
    ----------
    table
        What is chosen from.
    proteins
        Key of ``obsm``, or ``"none"``; None finds the proteins.
    among_genes
        Those that stand in ``var``, which are taken when none is named and ``obsm`` has none.

    Raises
    ------
    QueryError
        When the key is not there, or its values have no protein names.
    """
    if proteins == NO_PROTEINS:
        return None
    key = PROTEIN_KEY if proteins is None else proteins
    if key not in table.obsm_keys:
        if proteins is None:
            return among_genes
        raise QueryError(
            f"Expected proteins in obsm {key!r}; found {quoted(table.obsm_keys, when_empty='nothing in obsm')}. "
            f"Name one of these, or 'none' to map without proteins (proteins=, --proteins)."
        )
    where = f"obsm {key!r}"
    found = table.obsm(key)
    if isinstance(found, str):
        raise QueryError(
            f"Expected a DataFrame with protein names as columns in {where}; found {found}, which "
            f"has no names. Store pandas.DataFrame(values, index=adata.obs_names, columns=names), or map without "
            f"proteins (proteins='none', --proteins none)."
        )
    if len(found.cells) != len(table.cell_names) or not np.array_equal(found.cells, table.cell_names):
        raise QueryError(
            f"Expected one row for each of the {len(table.cell_names)} cells, in their order, in {where}; found "
            f"{len(found.cells)} rows with other names. Reindex it to the cells (values.loc[adata.obs_names])."
        )
    return ProteinTable(found.names, found.matrix, where)


def choose_modalities(names: Sequence[str], proteins: str | None) -> tuple[str, str | None]:
    """Return the names of the RNA modality and of the protein modality (None to map without) of a MuData.

    Raises
    ------
    QueryError
        When the named modality is not there, or RNA cannot be told from the rest.
    """
    found = _first_named(names, PROTEIN_MODALITIES)
    if proteins is None or proteins == NO_PROTEINS:
        protein = found
    elif proteins in names:
        protein = proteins
    else:
        raise QueryError(
            f"Expected proteins in a modality {proteins!r}; found modalities "
            f"{quoted(names, when_empty='none at all')}. Name one of these, or 'none' to map without proteins "
            f"(proteins=, --proteins)."
        )
    others = [name for name in names if name != protein]
    rna = _first_named(others, RNA_MODALITIES) or (others[0] if len(others) == 1 else None)
    if rna is None:
        raise QueryError(
            f"Expected an RNA modality named 'rna' or 'gex', or one modality beside the proteins; found "
            f"{quoted(names, when_empty='no modality')}. Rename the RNA modality to 'rna', or name that of the "
            f"proteins (proteins=, --proteins)."
        )
    return rna, None if proteins == NO_PROTEINS else protein


def _first_named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_folded = {name.casefold(): name for name in reversed(names)}
    return next((by_folded[name] for name in wanted if name in by_folded), None)
