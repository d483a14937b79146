"""What users should know of cells that could not be mapped."""

from __future__ import annotations

__all__ = ["without_rna_messages"]


def without_rna_messages(n_without_rna: int, n_cells: int) -> list[str]:
    """Say how many cells have no RNA, where there are any.

    Parameters
    ----------
    n_without_rna, n_cells
        Cells of the query without RNA, and all of them.

    Examples
    --------
    >>> without_rna_messages(0, 5)
    []
    """
    if not n_without_rna:
        return []
    return [
        f"{n_without_rna} of {n_cells} cells have no RNA and cannot be mapped: they keep missing values in the output."
    ]
