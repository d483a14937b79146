"""Genes and proteins of other cells, brought into the model's order by name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from totalanvi.training.errors import RegistrationError, listed
from totalanvi.training.registration.protein_counts import ProteinCounts
from totalanvi.training.registration.tables import Tables, generated_names
from totalanvi.training.stored_counts import Counts, StoredCounts

__all__ = ["ADD", "PREPARE", "match_all_proteins", "match_genes", "match_proteins", "unknown_proteins"]

ADD = "add them, or map these cells through an exported bundle, which does not need all"
"""What to do about features that other cells lack."""
PREPARE = "call prepare_query_anndata or prepare_query_mudata first, which adds them as zeros"
"""What to do about genes that a query for surgery lacks."""


def match_genes(tables: Tables, genes: Sequence[str], cure: str, only_these: bool = False) -> Counts:
    """RNA counts in the model's order, (cells, genes). Genes are never taken by position.

    Parameters
    ----------
    tables
        The data.
    genes
        Names in the model's order.
    cure
        What to do about genes that are missing, for the message.
    only_these
        Refuse genes that the model does not know, instead of leaving them out.

    Raises
    ------
    RegistrationError
        When genes are missing, or too many.
    """
    if only_these and len(tables.genes) > len(genes):
        extra = tables.genes[~tables.genes.isin(genes)]
        raise RegistrationError(
            f"Expected the model's {len(genes)} genes and no others, found {len(extra)} more ({listed(extra)}); leave "
            "them out."
        )
    positions = _positions(tables.genes, genes, "gene", cure)
    if isinstance(tables.rna, StoredCounts):
        in_order = np.array_equal(positions, np.arange(len(tables.genes)))
        return tables.rna if in_order else tables.rna.of_genes(positions)
    rows = sp.csr_matrix(tables.rna[:, positions])
    rows.sort_indices()  # sums over a cell's genes do not depend on the order in which a query stored them
    return rows


def match_all_proteins(tables: Tables, proteins: Sequence[str]) -> ProteinCounts:
    """Protein counts of data that has all of the model's proteins.

    Proteins are matched by name. Where the data does not name them, or names none as the model does, and has as many
    as the model, they are taken in the order in which they come, with a warning.

    Raises
    ------
    RegistrationError
        When proteins are missing.
    """
    unknown = not tables.proteins.isin(proteins).any()
    if len(tables.proteins) == len(proteins) and (unknown or not tables.proteins_are_named):
        return _by_position(tables, proteins)
    _require_names(tables, proteins)
    return tables.protein.of_proteins(_positions(tables.proteins, proteins, "protein", ADD))


def match_proteins(tables: Tables, proteins: Sequence[str]) -> ProteinCounts:
    """Protein counts of data that may have been measured with another panel, or with none: matched by name.

    Raises
    ------
    RegistrationError
        When the data does not name its proteins, and has more or fewer than the model.
    """
    if not tables.proteins_are_named and len(tables.proteins) == len(proteins):
        return _by_position(tables, proteins)
    _require_names(tables, proteins)
    return tables.protein.of_proteins(tables.proteins.get_indexer(pd.Index(proteins, dtype=object)))


def unknown_proteins(tables: Tables, proteins: Sequence[str]) -> tuple[str, ...]:
    """Proteins of the data, as far as it names them, that are none of the model's."""
    return tuple(tables.proteins[~tables.proteins.isin(proteins)]) if tables.proteins_are_named else ()


def _by_position(tables: Tables, proteins: Sequence[str]) -> ProteinCounts:
    # Names that were made up for the reference say the same as the position.
    if list(proteins) != generated_names(len(proteins)) or tables.proteins_are_named:
        found = f"other names ({listed(tables.proteins, 3)})" if tables.proteins_are_named else "no names"
        warnings.warn(
            f"The protein table has {found}, none of them the model's ({listed(proteins, 3)}), but as many columns: "
            "they are taken by position. Name the columns as the model does if their order could be another.",
            UserWarning,
            stacklevel=2,
        )
    return tables.protein


def _require_names(tables: Tables, proteins: Sequence[str]) -> None:
    if not tables.proteins_are_named:
        raise RegistrationError(
            f"Expected the model's {len(proteins)} proteins, found {len(tables.proteins)} columns without names; give "
            "a DataFrame, or their names in `protein_names_uns_key`."
        )


def _positions(found: pd.Index, wanted: Sequence[str], what: str, cure: str) -> npt.NDArray[np.intp]:
    positions: npt.NDArray[np.intp] = found.get_indexer(pd.Index(wanted, dtype=object))
    if (positions < 0).any():
        missing = [name for name, position in zip(wanted, positions, strict=True) if position < 0]
        raise RegistrationError(
            f"Expected the model's {len(wanted)} {what}s, found {len(missing)} missing ({listed(missing)}); {cure}."
        )
    return positions
