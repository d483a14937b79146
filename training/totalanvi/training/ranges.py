"""Numbers that options may be."""

from __future__ import annotations

import math

from totalanvi.training.errors import ArgumentError

__all__ = ["require_range"]


def require_range(options: object, names: tuple[str, ...], least: float, most: float = math.inf) -> None:
    """Refuse options outside ``[least, most]``; options that are `None` are not asked for."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            allowed = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ArgumentError(f"{name}: expected {allowed}, found {value}; give such a number.")
