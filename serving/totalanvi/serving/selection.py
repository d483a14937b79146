"""Which part of a query holds what: the layer with RNA counts, the modality or ``obsm`` entry with proteins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from totalanvi.serving.errors import QueryError
from totalanvi.serving.tables import Matrix, Table

__all__ = ["DEFAULT_OBSM", "NO_PROTEINS", "ProteinTable", "choose_layer", "choose_modalities", "choose_proteins"]

NO_PROTEINS = "none"
"""Given for `proteins`, this maps without proteins even when the query has some."""

DEFAULT_OBSM = "protein_expression"
RNA_MODALITIES = ("rna", "gex")
PROTEIN_MODALITIES = ("prot", "protein", "adt", "ab")


@dataclass(frozen=True, eq=False)
class ProteinTable:
    """Protein names (proteins,), their values (cells, proteins), and how messages call the place."""

    names: tuple[str, ...]
    matrix: Matrix
    where: str


def choose_layer(table: Table, layer: str | None) -> str | None:
    """Return the layer to read, None for ``X``.

    Raises
    ------
    QueryError
        When the layer, or ``X``, is not there.
    """
    if layer is None:
        if not table.has_x:
            raise QueryError(
                f"Expected raw counts in X; found that the query has no X. "
                f"Name a layer (layer=, --layer); it has {_listing(table.layers, 'no layers')}."
            )
        return None
    if layer not in table.layers:
        raise QueryError(
            f"Expected a layer {layer!r}; found {_listing(table.layers, 'no layers')}. "
            f"Name one of these, or none to read X (layer=, --layer)."
        )
    return layer


def choose_proteins(table: Table, proteins: str | None) -> ProteinTable | None:
    """Return the ``obsm`` entry of an AnnData that holds proteins; None to map without.

    Raises
    ------
    QueryError
        When the key is not there, or its values have no protein names.
    """
    if proteins == NO_PROTEINS:
        return None
    key = DEFAULT_OBSM if proteins is None else proteins
    if key not in table.obsm_keys:
        if proteins is None:
            return None
        raise QueryError(
            f"Expected proteins in obsm {key!r}; found {_listing(table.obsm_keys, 'nothing in obsm')}. "
            f"Name one of these, or 'none' to map without proteins (proteins=, --proteins)."
        )
    where = f"obsm {key!r}"
    values = table.obsm(key)
    if not isinstance(values, pd.DataFrame):
        raise QueryError(
            f"Expected a DataFrame with protein names as columns in {where}; found {type(values).__name__}, which "
            f"has no names. Store pandas.DataFrame(values, index=adata.obs_names, columns=names), or map without "
            f"proteins (proteins='none', --proteins none)."
        )
    if len(values) != len(table.cell_names) or not np.array_equal(values.index.astype(str), table.cell_names):
        raise QueryError(
            f"Expected one row for each of the {len(table.cell_names)} cells, in their order, in {where}; found "
            f"{len(values)} rows with other names. Reindex it to the cells (values.loc[adata.obs_names])."
        )
    try:
        matrix = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise QueryError(
            f"Expected numbers in {where}; found columns that are none ({error}). Keep protein counts only."
        ) from error
    return ProteinTable(tuple(str(name) for name in values.columns), matrix, where)


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
            f"Expected proteins in a modality {proteins!r}; found modalities {_listing(names, 'none at all')}. "
            f"Name one of these, or 'none' to map without proteins (proteins=, --proteins)."
        )
    others = [name for name in names if name != protein]
    rna = _first_named(others, RNA_MODALITIES) or (others[0] if len(others) == 1 else None)
    if rna is None:
        raise QueryError(
            f"Expected an RNA modality named 'rna' or 'gex', or one modality beside the proteins; found "
            f"{_listing(names, 'no modality')}. Rename the RNA modality to 'rna'."
        )
    return rna, None if proteins == NO_PROTEINS else protein


def _first_named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_folded = {name.casefold(): name for name in reversed(names)}
    return next((by_folded[name] for name in wanted if name in by_folded), None)


def _listing(names: Sequence[str], when_empty: str) -> str:
    return ", ".join(repr(name) for name in names) if names else when_empty
