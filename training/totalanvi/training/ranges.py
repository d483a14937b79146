"""What the values of options may be."""

from __future__ import annotations

import math
from numbers import Real

from totalanvi.training.errors import ArgumentError

__all__ = ["require_choice", "require_flag", "require_range", "require_whole"]


def require_range(options: object, names: tuple[str, ...], least: float, most: float = math.inf) -> None:
    """Refuse options outside ``[least, most]``; options that are `None` are not asked for.

    Raises
    ------
    ArgumentError
        When one is no number, or outside.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not (isinstance(value, Real) and least <= float(value) <= most):
            allowed = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ArgumentError(f"{name}: expected {allowed}, found {value}; give such a number.")


def require_whole(options: object, names: tuple[str, ...], least: int) -> None:
    """Refuse what is no whole number, ``least`` at the least; 10.0 is one, and becomes 10 in a frozen dataclass too.

    Raises
    ------
    ArgumentError
        When one is no whole number, or less.
    """
    require_range(options, names, least)
    for name in names:
        value = getattr(options, name)
        if value is None:
            continue
        if not float(value).is_integer():
            raise ArgumentError(f"{name}: expected a whole number, found {value}; round it.")
        object.__setattr__(options, name, int(value))


def require_choice(options: object, name: str, choices: tuple[str, ...]) -> None:
    """Refuse an option that is not one of ``choices``.

    Raises
    ------
    ArgumentError
        Naming them.
    """
    value = getattr(options, name)
    if value not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(choices)}, found {value!r}; choose one of them.")


def require_flag(options: object, names: tuple[str, ...]) -> None:
    """Refuse options that are neither true nor false.

    Raises
    ------
    ArgumentError
        Naming the first.
    """
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, bool):
            raise ArgumentError(f"{name}: expected True or False, found {value!r}; choose one of them.")
