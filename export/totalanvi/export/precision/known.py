"""The precisions that a bundle may have, by name."""

from __future__ import annotations

from totalanvi.export.errors import PrecisionError
from totalanvi.serving.bundles.precision import LOWERED, Lowered

__all__ = ["FULL", "checked_precision"]

FULL = "float32"
"""What training computes with, and the default."""

_ALSO_CALLED = {"fp32": FULL, "single": FULL, "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


def checked_precision(precision: str) -> Lowered | None:
    """Return what to lower a bundle to, None for float32.

    Raises
    ------
    PrecisionError
        When it is something else.

    Examples
    --------
    >>> checked_precision("int8")
    'int8'
    """
    for known in LOWERED:
        if precision == known:
            return known
    if precision != FULL:
        names = ", ".join((FULL, *LOWERED))
        meant = _ALSO_CALLED.get(precision.lower())
        cure = "choose one of them." if meant is None else f"did you mean {meant}?"
        raise PrecisionError(f"precision: expected one of {names}, found {precision!r}; {cure}")
    return None
