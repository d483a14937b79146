"""Names in messages: quoted, and not too many of them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["examples", "quoted"]

_N_EXAMPLES = 3


def quoted(names: Sequence[str], most: int | None = None, when_empty: str = "none") -> str:
    """List names in quotes.

    Parameters
    ----------
    names
        What to list.
    most
        How many to spell out; the others are counted. None spells out all.
    when_empty
        What to say where there is no name.

    Examples
    --------
    >>> quoted(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    >>> quoted([], when_empty="no layers")
    'no layers'
    """
    if not names:
        return when_empty
    shown = names[:most]
    more = len(names) - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more else "")


def examples(names: Sequence[str]) -> str:
    """List the first names, quoted.

    Examples
    --------
    >>> examples(["a", "b", "c", "d"])
    "'a', 'b', 'c'"
    """
    return quoted(names[:_N_EXAMPLES])
