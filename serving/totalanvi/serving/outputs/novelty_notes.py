"""What users should know of a query many of whose cells look like none of the reference's."""

from __future__ import annotations

from totalanvi.pages.tables import percent, share

__all__ = ["many_unknown_messages"]

_MANY = 0.05
"""Share of unknown cells that a reader is warned of, when it is several times what was asked for."""


def many_unknown_messages(n_unknown: int, n_mapped: int, false_positive_rate: float) -> list[str]:
    """Say so where there are many such cells.

    Parameters
    ----------
    n_unknown, n_mapped
        Cells more novel than cells like the reference's are, and all that were mapped.
    false_positive_rate
        Share of cells like the reference's own that may be among them.

    Examples
    --------
    >>> many_unknown_messages(2, 100, 0.01)
    []
    """
    part = n_unknown / max(n_mapped, 1)
    if part < max(_MANY, 3 * false_positive_rate):
        return []
    return [
        f"{share(part)} of the cells are more novel than cells like the reference's, of which "
        f"{percent(false_positive_rate)} would be. They may be of types that the reference lacks, damaged, two cells "
        "in one, or from a batch that differs much: look at them before you use their labels."
    ]
