"""What users should know of a query many of whose cells look like none of the reference's."""

from __future__ import annotations

from totalanvi.pages.tables import percent, share

__all__ = ["many_unknown_messages"]

_TIMES_EXPECTED = 2
"""How many times the expected share is many: calibrated on a sample, it is never quite the one that was asked for."""

_CHANCE = 1e-5
"""How seldom chance alone may find as many, so that hardly one of a thousand queries is warned of without a reason."""


def many_unknown_messages(n_unknown: int, n_mapped: int, false_positive_rate: float) -> list[str]:
    """Say so where there are many such cells: more than were asked for, and than chance would find.

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
    >>> len(many_unknown_messages(42, 1_000, 0.01))
    1
    """
    part = n_unknown / max(n_mapped, 1)
    if part < _TIMES_EXPECTED * false_positive_rate:
        return []
    from scipy.special import bdtrc

    # How many cells of a query like the reference are unknown is binomial.
    if bdtrc(n_unknown - 1, n_mapped, false_positive_rate) >= _CHANCE:
        return []
    return [
        f"{share(part)} of the cells are more novel than cells like the reference's, of which "
        f"{percent(false_positive_rate)} would be. They may be of types that the reference lacks, damaged, two cells "
        "in one, or from a batch that differs much: look at them before you use their labels."
    ]
