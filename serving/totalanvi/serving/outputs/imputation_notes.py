"""What users should know of imputed proteins: how well RNA predicts each, and as which batch it was imputed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from totalanvi.serving.bundles.confidence_figures import UNRELIABLE_BELOW
from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.listing import quoted
from totalanvi.serving.mapped import MapOptions

__all__ = ["doubtful_message", "doubtful_proteins", "few_proteins_messages", "imputation_messages", "reliability_table"]

_MOST_NAMES = 10


def reliability_table(info: ReferenceInfo) -> dict[str, Any]:
    """Return the reliability of each protein as columns (proteins,), which make a DataFrame; NaN where not known."""

    def column(name: str) -> Any:
        return np.array([getattr(row, name) for row in info.protein_reliability], dtype=np.float64)

    return {
        "protein": np.array(info.proteins, dtype=object),
        "pearson": column("pearson"),
        "spearman": column("spearman"),
        "n_cells": np.array([row.n_cells for row in info.protein_reliability], dtype=np.int64),
    }


def imputation_messages(info: ReferenceInfo, options: MapOptions, imputed: Collection[str]) -> list[str]:
    """Say which imputed proteins not to read, and which are not imputed as the batch that was named.

    Parameters
    ----------
    info, options
        What was mapped to, and how.
    imputed
        Those of the reference's proteins that the query, or a cell of it, lacks: they are imputed from RNA alone.
    """
    if not options.impute:
        return []
    messages = []
    if doubtful := [name for name in doubtful_proteins(info) if name in imputed]:
        messages.append(doubtful_message(doubtful))
    if options.impute_as in info.batches:
        panel = info.protein_batches[info.batches.index(options.impute_as)]
        if absent := [name for name, measured in zip(info.proteins, panel, strict=True) if not measured]:
            messages.append(
                f"Batch {options.impute_as!r} did not measure {quoted(absent, _MOST_NAMES)}: imputed as the average of "
                "those that did."
            )
    return messages


def doubtful_proteins(info: ReferenceInfo, missing: Collection[str] = ()) -> list[str]:
    """Return the proteins that RNA alone cannot predict, but for those that a query lacks (`missing`)."""
    rows = zip(info.proteins, info.protein_reliability, strict=True)
    return [name for name, row in rows if not row.reliable and name not in missing]


def few_proteins_messages(doubtful: Sequence[str], n_with_proteins: int, n_mapped: int) -> list[str]:
    """Say what not to read of cells without proteins in a query that has some.

    Parameters
    ----------
    doubtful
        Those of the query's proteins that RNA alone cannot predict; none where nothing is imputed.
    n_with_proteins, n_mapped
        Cells that were mapped with proteins, and all that were mapped.

    Examples
    --------
    >>> few_proteins_messages(["CD4"], 5, 5)
    []
    """
    if not doubtful or n_with_proteins == n_mapped:
        return []
    return [
        f"{n_mapped - n_with_proteins:,} of {n_mapped:,} cells have no proteins: theirs are imputed from RNA alone. "
        f"{doubtful_message(doubtful)}"
    ]


def doubtful_message(proteins: Sequence[str]) -> str:
    """Say of which proteins imputed values should not be read."""
    return (
        f"RNA cannot predict {quoted(proteins, _MOST_NAMES)}: do not rely on the imputed values (correlation with "
        f"held-out counts below {UNRELIABLE_BELOW:g})."
    )
