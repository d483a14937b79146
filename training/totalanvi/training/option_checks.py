"""What the values of options may be: the `checks`, for fields of an options object by their names.

`None` is taken where a field's type has it, and means that the option is not given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args, get_type_hints

from totalanvi.training.checks import as_choice, as_number, as_whole, require_flags

__all__ = ["require_choice", "require_flag", "require_range", "require_whole"]


def require_range(options: object, names: tuple[str, ...], least: float, most: float | None = None) -> None:
    """Refuse options outside ``[least, most]``; infinity is one of them where there is no ``most``.

    Raises
    ------
    ArgumentError
        When one is no number, or outside.
    """
    for name, value in _given(options, names):
        if not (most is None and isinstance(value, float) and value == math.inf):
            as_number(name, value, least, most)


def require_whole(options: object, names: tuple[str, ...], least: int) -> None:
    """Refuse what is no whole number, ``least`` at the least; 10.0 is one, and becomes 10 in a frozen dataclass too.

    Raises
    ------
    ArgumentError
        When one is no whole number, or less.
    """
    for name, value in _given(options, names):
        object.__setattr__(options, name, as_whole(name, value, least))


def require_choice(options: object, name: str, choices: tuple[str, ...]) -> None:
    """Refuse an option that is not one of ``choices``.

    Raises
    ------
    ArgumentError
        Naming them.
    """
    as_choice(name, getattr(options, name), choices)


def require_flag(options: object, names: tuple[str, ...]) -> None:
    """Refuse options that are neither true nor false.

    Raises
    ------
    ArgumentError
        Naming the first of them.
    """
    require_flags(**{name: getattr(options, name) for name in names})


def _given(options: object, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    types = get_type_hints(type(options))
    for name in names:
        value = getattr(options, name)
        if value is not None or NoneType not in get_args(types[name]):
            yield name, value
