"""A query has cells and genes, and the name of a cell stands for one."""

from __future__ import annotations

import pandas as pd

from totalanvi.serving.errors import QueryError

__all__ = ["require_not_empty", "require_unique_cells"]


def require_not_empty(n_cells: int, n_genes: int, where: str) -> None:
    """Refuse a query without cells or without genes.

    Raises
    ------
    QueryError
        When either number is 0.
    """
    if n_cells == 0 or n_genes == 0:
        raise QueryError(
            f"Expected at least one cell and one gene in {where} of the query; found {n_cells} cells and {n_genes} "
            f"genes. Check how the query was filtered."
        )


def require_unique_cells(cells: pd.Index, of: str = "") -> None:
    """Refuse cell names that repeat; `of` says whose they are, such as ``" of modality 'rna'"``.

    Raises
    ------
    QueryError
        Naming one of them.
    """
    if cells.is_unique:
        return
    repeated = cells[cells.duplicated()]
    raise QueryError(
        f"Expected each cell name{of} once; found {len(repeated)} repeated, such as {str(repeated[0])!r}. "
        f"Make them unique (obs_names_make_unique(), or a prefix for each sample)."
    )
