"""What names may stand for, and what becomes of several that stand for the same feature.

A name is judged alone, by the reference: what it may stand for, and how sure that is (`Found`). Only then names meet
each other (`match`): the surest has the feature, and of equally sure ones either all count or none does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from totalanvi.serving.alignment.controls import Control

__all__ = ["Columns", "Found", "Matching", "Reason", "Way", "match", "unambiguous"]

Way = Literal["map", "name", "symbol", "ensembl", "spelling", "decoration", "suffix"]
"""How a name was resolved, the surest way first: by the user's map; the reference's own name; its symbol or Ensembl id
beside that name; the same letters and digits; without what vendors and tools put around it; without a clone or a
number at its end."""

Reason = Literal[Control, "ambiguous", "taken", "mapped to nothing"]
"""Why a name that may stand for something was left out; "taken": a surer name has the feature."""

Columns: TypeAlias = npt.NDArray[np.intp]
"""For each query feature its place in the model (features,), -1 for none."""

_SURENESS = {way: rank for rank, way in enumerate(get_args(Way))}


@dataclass(frozen=True)
class Found:
    """What one name may stand for: one place in the model, several (which of them is not guessed), or none, for a
    reason.
    """

    places: tuple[int, ...]
    way: Way = "name"
    reason: Reason | None = None


@dataclass(frozen=True, eq=False)
class Matching:
    """Query features and their places in the model.

    Parameters
    ----------
    names
        As the query writes them (features,).
    columns
        Their places (features,); several may have the same, and are to be summed.
    ways
        How each was resolved (features,); None for those that have no place.
    left_out
        By position in `names`: why, and the places in question.
    """

    names: tuple[str, ...]
    columns: Columns
    ways: tuple[Way | None, ...]
    left_out: dict[int, tuple[Reason, tuple[int, ...]]]

    @property
    def places(self) -> Columns:
        """The places that were matched, ascending, each once."""
        return np.unique(self.columns[self.columns >= 0])

    def by_name(self) -> Iterator[tuple[str, int]]:
        """Give each name that has a place, and its place."""
        for name, place in zip(self.names, self.columns.tolist(), strict=True):
            if place >= 0:
                yield name, place

    @property
    def reasons(self) -> list[Reason | None]:
        """Why each was left out (features,); None for those that were not."""
        return [self.left_out[i][0] if i in self.left_out else None for i in range(len(self.names))]


def match(names: Sequence[str], found: Sequence[Found | None], *, sums_equals: bool) -> Matching:
    """Let names that were judged alone meet each other.

    Parameters
    ----------
    names
        Of the query (features,).
    found
        What each may stand for (features,).
    sums_equals
        Whether different names that are equally sure of one place are summed, as two versions of an Ensembl id are, or
        all left out, as two antibodies are. Repeated names, and what the user's map says, are always summed.

    Examples
    --------
    >>> match(["A", "a", "B"], [Found((0,)), Found((0,), "spelling"), None], sums_equals=True).columns
    array([ 0, -1, -1])
    """
    by_place: dict[int, list[tuple[int, Way]]] = defaultdict(list)
    left_out: dict[int, tuple[Reason, tuple[int, ...]]] = {}
    for position, what in enumerate(found):
        if what is None:
            continue
        if what.reason is not None:
            left_out[position] = (what.reason, what.places)
        elif len(what.places) > 1:
            left_out[position] = ("ambiguous", what.places)
        else:
            by_place[what.places[0]].append((position, what.way))
    columns: Columns = np.full(len(names), -1, dtype=np.intp)
    ways: list[Way | None] = [None] * len(names)
    for place, claims in by_place.items():
        surest = min((way for _, way in claims), key=_SURENESS.__getitem__)
        different = len({names[position] for position, way in claims if way == surest}) > 1
        agree = sums_equals or not different or surest == "map"
        for position, way in claims:
            if not agree:
                left_out[position] = ("ambiguous", (place,))
            elif way != surest:
                left_out[position] = ("taken", (place,))
            else:
                columns[position], ways[position] = place, way
    return Matching(tuple(names), columns, tuple(ways), dict(sorted(left_out.items())))


def unambiguous(keys: Sequence[str | None]) -> dict[str, int]:
    """Return the position of each key, leaving out keys that stand at two.

    Examples
    --------
    >>> unambiguous(["a", "b", None, "a"])
    {'b': 1}
    """
    counts = Counter(keys)
    return {key: position for position, key in enumerate(keys) if key is not None and counts[key] == 1}
