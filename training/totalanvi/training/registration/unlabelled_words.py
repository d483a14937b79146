"""Values of a column of cell types that mostly mean "not labelled", where nobody has said that they do."""

from __future__ import annotations

import re
import warnings

from totalanvi.training.errors import listed
from totalanvi.training.registration.registry import Registry

__all__ = ["warn_of_unlabelled_words"]

_WORDS = frozenset(
    (
        *("unknown", "unassigned", "unlabeled", "unlabelled", "unannotated", "unclassified", "undefined"),
        *("not assigned", "not labeled", "not labelled", "not annotated", "not available"),
        *("nan", "na", "n/a", "none", "null", "?"),
    )
)


def warn_of_unlabelled_words(registry: Registry) -> None:
    """Warn of labels that would be learned as cell types and read as if they were none.

    They stay types unless they are named: a reference may well have a type that is called so.

    Parameters
    ----------
    registry
        Of a reference; its labels are without those that were named as "not labelled".

    Warns
    -----
    UserWarning
        When there is such a label, in whatever case and with whatever stands between its words.
    """
    if found := [label for label in registry.labels if _plain(label) in _WORDS]:
        warnings.warn(
            f"Cells called {listed(found)} in obs[{registry.setup['labels_key']!r}] are learned like any cell type: if "
            "they have no label, name what they are called (unlabeled_category=, --unlabeled).",
            UserWarning,
            stacklevel=2,
        )


def _plain(label: str) -> str:
    return re.sub(r"[\s_.-]+", " ", label).strip().casefold()
