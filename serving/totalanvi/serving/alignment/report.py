"""What alignment has to say: which features were matched, how each name was resolved, and how much that is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from totalanvi.serving.alignment.matching import Matching, Reason, Way

__all__ = ["AlignmentReport", "FeatureMatch", "LeftOut", "Resolved", "Summed", "as_columns", "feature_match"]

MAX_LISTED = 20
"""How many missing or extra names an annotated query lists; the counts are of all, and ``--report`` lists all."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class Resolved(_Report):
    """A name of the query that is not the reference's own, and what it was taken for."""

    query: str
    reference: str
    way: Way


class LeftOut(_Report):
    """A name of the query that was not used although it is not unknown."""

    query: str
    reason: Reason
    candidates: tuple[str, ...]
    """What it may stand for, or what a surer name stands for."""


class Summed(_Report):
    """Several columns of the query whose counts were added up, for they are one feature of the reference."""

    reference: str
    query: tuple[str, ...]


class FeatureMatch(_Report):
    """How the genes, or the proteins, of a query and of the reference match."""

    matched: int
    missing: int
    """Of the reference's features, how many the query lacks."""
    extra: int
    """Of the query's features, how many the reference does not know; they are ignored."""
    missing_names: tuple[str, ...]
    """The most important first."""
    extra_names: tuple[str, ...]
    ways: dict[Way, int]
    """How many of the query's features were resolved in each way."""
    resolved: tuple[Resolved, ...]
    """Those that were not resolved by the reference's own name."""
    left_out: tuple[LeftOut, ...]
    summed: tuple[Summed, ...]

    def shortened(self) -> FeatureMatch:
        """Return the same with at most `MAX_LISTED` missing and extra names."""
        return self.model_copy(
            update={"missing_names": self.missing_names[:MAX_LISTED], "extra_names": self.extra_names[:MAX_LISTED]}
        )


class AlignmentReport(_Report):
    """What alignment found; JSON-able (`model_dump`)."""

    genes: FeatureMatch
    proteins: FeatureMatch
    gene_names: str
    """Where the query's gene names were read: ``"var_names"``, or a column of ``var``."""
    gene_coverage: float
    """Share of the reference's average counts that the matched genes carry, in [0, 1]."""
    gene_weight: float
    """Share of the model's learned weight that the matched genes carry, in [0, 1]."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    """What was done that is not a reason to worry."""

    def shortened(self) -> AlignmentReport:
        """Return the same with short lists of missing and extra names."""
        return self.model_copy(update={"genes": self.genes.shortened(), "proteins": self.proteins.shortened()})


def feature_match(
    reference: Sequence[str], matchings: Sequence[Matching], importance: npt.NDArray[np.float64] | None = None
) -> FeatureMatch:
    """Describe one matching, or several of queries that are answered together.

    Parameters
    ----------
    reference
        Names of the reference's features (features,).
    matchings
        Of one query, or of the cells of one request.
    importance
        Of the reference's features (features,): missing ones are listed by it.
    """
    found = np.zeros(len(reference), dtype=bool)
    # By name, so that cells that name the same features count them once.
    resolved: dict[str, tuple[int, Way]] = {}
    left_out: dict[str, LeftOut] = {}
    extra: dict[str, None] = {}
    summed: dict[Summed, None] = {}
    for matching in matchings:
        found[matching.places] = True
        summed.update(dict.fromkeys(_summed(reference, matching)))
        for position, (name, place, way) in enumerate(
            zip(matching.names, matching.columns.tolist(), matching.ways, strict=True)
        ):
            if way is not None:
                resolved[name] = (place, way)
            elif position in matching.left_out:
                reason, places = matching.left_out[position]
                left_out[name] = LeftOut(
                    query=name, reason=reason, candidates=tuple(reference[place] for place in places)
                )
            else:
                extra[name] = None
    missing = np.flatnonzero(~found)
    if importance is not None:
        missing = missing[np.argsort(-importance[missing], kind="stable")]
    return FeatureMatch(
        matched=int(found.sum()),
        missing=len(missing),
        extra=len(extra),
        missing_names=tuple(reference[place] for place in missing.tolist()),
        extra_names=tuple(extra),
        ways=dict(Counter(way for _, way in resolved.values())),
        resolved=tuple(
            Resolved(query=name, reference=reference[place], way=way)
            for name, (place, way) in resolved.items()
            if way != "name"
        ),
        left_out=tuple(left_out.values()),
        summed=tuple(summed),
    )


def _summed(reference: Sequence[str], matching: Matching) -> list[Summed]:
    names: dict[int, list[str]] = {}
    for name, place in zip(matching.names, matching.columns.tolist(), strict=True):
        if place >= 0:
            names.setdefault(place, []).append(name)
    return [
        Summed(reference=reference[place], query=tuple(sorted(those)))
        for place, those in names.items()
        if len(those) > 1
    ]


def as_columns(rows: Sequence[BaseModel], fields: Sequence[str]) -> dict[str, Any]:
    """Turn rows into an array of text per field, which HDF5 can hold; lists in them are joined by commas."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else ", ".join(value)

    return {name: np.array([text(getattr(row, name)) for row in rows], dtype=object) for name in fields}
