"""The names that a reference's labels are served under."""

from __future__ import annotations

from collections.abc import Sequence

from totalanvi.serving.bundles.manifest import UNKNOWN

__all__ = ["served_labels"]


def served_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels, (labels,), without the one name that serving gives to novel cells.

    A reference may have learned a label of that name, where its unlabelled cells were called otherwise. It is served
    under another, so that what the model predicts and what it does not know stay apart.

    Examples
    --------
    >>> served_labels(["B cell", "unknown"])
    ['B cell', 'unknown (reference)']
    """
    renamed = f"{UNKNOWN} (reference)"
    while renamed in labels:
        renamed += "'"
    return [renamed if label == UNKNOWN else label for label in labels]
