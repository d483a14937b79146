"""How to integrate gradients: the arguments of `get_attributions`, and those of captum's ``attribute``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from totalanvi.training.checks import as_choice, as_whole, require_type
from totalanvi.training.errors import ArgumentError
from totalanvi.training.registration.registry import Registry
from totalanvi.training.results.arguments import cells_in_batch

__all__ = ["N_STEPS", "AttributionOptions", "Baseline"]

Baseline: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike]
"""Counts of genes, (genes,), and of proteins, (proteins,), or a number for either."""

N_STEPS = 20

_CAPTUM = ("n_steps", "baselines", "internal_batch_size", "method")
_METHODS = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")


@dataclass(frozen=True)
class AttributionOptions:
    """How to integrate.

    Parameters
    ----------
    baseline
        Counts where the paths begin, (genes + proteins,), float32.
    n_steps
        Points on each path, before it is refined.
    batch_size
        Cells, and points on their paths, that go through the network at once.
    """

    baseline: npt.NDArray[np.float32]
    n_steps: int
    batch_size: int

    @classmethod
    def of(
        cls, registry: Registry, n_steps: int = N_STEPS, baseline: Baseline | None = None, batch_size: int | None = None
    ) -> Self:
        """Check the arguments of `get_attributions`.

        Raises
        ------
        ArgumentError
            For less than one step or cell, and for a baseline that is not counts of the model's features.
        """
        return cls(_counts(registry, baseline), as_whole("n_steps", n_steps, 1), cells_in_batch(batch_size))

    @classmethod
    def of_captum(cls, registry: Registry, ig_args: Mapping[str, Any], batch_size: int | None) -> Self:
        """Check arguments under the names that captum has for them; ``method`` changes nothing here.

        Raises
        ------
        ArgumentError
            For other names, or another method than captum's; otherwise as `of`.
        """
        require_type("ig_args", ig_args, Mapping, "give arguments by name")
        unknown = [name for name in ig_args if name not in _CAPTUM]
        if unknown:
            raise ArgumentError(f"ig_args: expected {', '.join(_CAPTUM)}, found {unknown[0]!r}; leave it out.")
        as_choice("ig_args['method']", ig_args.get("method", _METHODS[0]), _METHODS)
        return cls.of(
            registry,
            ig_args.get("n_steps", N_STEPS),
            ig_args.get("baselines"),
            ig_args.get("internal_batch_size") or batch_size,
        )


def _counts(registry: Registry, baseline: Baseline | None) -> npt.NDArray[np.float32]:
    n_genes, n_proteins = len(registry.genes), len(registry.proteins)
    try:
        genes, proteins = (0.0, 0.0) if baseline is None else baseline
        parts = [_row(genes, n_genes), _row(proteins, n_proteins)]
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"baseline: expected counts of {n_genes} genes and of {n_proteins} proteins, found another shape "
            f"({error}); give a pair of arrays, or of numbers."
        ) from error
    counts: npt.NDArray[np.float32] = np.concatenate(parts)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ArgumentError("baseline: expected counts, found some below 0, infinite or NaN; give 0 or more.")
    return counts


def _row(counts: npt.ArrayLike, n_features: int) -> npt.NDArray[np.float32]:
    """Counts for each feature, given as such or as one number for all, (features,)."""
    row: npt.NDArray[np.float32] = np.broadcast_to(np.asarray(counts, np.float32), (1, n_features))[0]
    return row
