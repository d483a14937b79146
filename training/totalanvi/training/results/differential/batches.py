"""As which batches the two groups are decoded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import ArgumentError
from totalanvi.training.registration.codes import Batches, codes_of_batches
from totalanvi.training.registration.registry import Registry

__all__ = ["BatchPolicy", "batch_policy", "warn_of_unmeasured"]


@dataclass(frozen=True)
class BatchPolicy:
    """Codes of the batches that each group is decoded as; `None` stands for each cell's own."""

    first: tuple[int | None, ...] = (None,)
    second: tuple[int | None, ...] = (None,)

    @property
    def pairs_within_batches(self) -> bool:
        """Whether the draws that are compared were decoded as the same batch."""
        return self.first == self.second and self.first != (None,)


def batch_policy(
    registry: Registry, batch_correction: bool, batchid1: Batches | None, batchid2: Batches | None
) -> BatchPolicy:
    """Decide as which batches to decode.

    Without correction, every cell is decoded as its own batch. With it, both groups are decoded as every batch, or as
    the batches named: the same for both groups, so that what is compared differs in the cells alone, or for each its
    own.

    Raises
    ------
    ArgumentError
        When batches are named without correction, are unknown, or are shared by the groups in part.
    """
    if not batch_correction:
        if batchid1 is not None or batchid2 is not None:
            raise ArgumentError(
                "batchid1, batchid2: expected none where every cell is decoded as its own batch, found some; set "
                "batch_correction=True to decode as them."
            )
        return BatchPolicy()
    first = _codes(registry.batches, batchid1, "batchid1")
    second = _codes(registry.batches, batchid2, "batchid2")
    if first != second and set(first) & set(second):
        common = ", ".join(registry.batches[code] for code in sorted(set(first) & set(second)))
        raise ArgumentError(
            f"batchid1, batchid2: expected the same batches for both groups, or none in common, found {common} in both "
            "and others in one; name the same for both."
        )
    return BatchPolicy(first, second)


def _codes(batches: Sequence[str], wanted: Batches | None, argument: str) -> tuple[int, ...]:
    """Codes in ascending order, so that the draws of two groups are in the same order of batches."""
    return tuple(sorted(set(range(len(batches)) if wanted is None else codes_of_batches(batches, wanted, argument))))


def warn_of_unmeasured(registry: Registry, policy: BatchPolicy, own: npt.NDArray[np.int64]) -> None:
    """Warn of proteins that were not measured in a batch that cells are decoded as; ``own`` are the cells' batches."""
    used = np.unique(own) if policy.first == (None,) else np.unique([*policy.first, *policy.second])
    measured = np.array(registry.batch_proteins, dtype=bool)[used]
    if measured.all():
        return
    lacking = ", ".join(registry.batches[code] for code in used[~measured.all(axis=1)])
    warnings.warn(
        f"{int((~measured.all(axis=0)).sum())} proteins were not measured in each batch that cells are decoded as "
        f"({lacking} lack some): what is said of them is imputed there. With batch_correction=True, batchid1 and "
        "batchid2 can name batches that measured them.",
        UserWarning,
        stacklevel=3,
    )
