"""What users may give: each check returns the value in its plain type, or says what it should have been.

They are called where an argument is first used, by its name. `option_checks` has them for the fields of an options
object.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Collection, Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from totalanvi.training.errors import ArgumentError, TrainingError

__all__ = [
    "as_choice",
    "as_names",
    "as_number",
    "as_path",
    "as_seed",
    "as_whole",
    "require_flags",
    "require_function",
    "require_texts",
    "require_type",
]


def as_number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    cure: str = "give such a number",
) -> float:
    """Return a finite number within limits: from ``least`` to ``most``, or else above and below others.

    Raises
    ------
    ArgumentError
        For anything else; ``cure`` says what to do.

    Examples
    --------
    >>> as_number("fdr_target", 0.05, above=0, below=1)
    0.05
    """
    inside = (
        _is_number(value)
        and math.isfinite(value)
        and (above < value if least is None else least <= value)
        and (value < below if most is None else value <= most)
    )
    if not inside:
        low = f"above {above:g}" if least is None else f"of at least {least:g}"
        high = f" and at most {most:g}" if most is not None else f" and below {below:g}" if below < math.inf else ""
        raise ArgumentError(f"{name}: expected a number {low}{high}, found {value!r}; {cure}.")
    return float(value)


def as_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number, ``least`` at the least; 10.0 is one, and becomes 10.

    Raises
    ------
    ArgumentError
        For anything else.

    Examples
    --------
    >>> as_whole("n_samples", 10.0, 1)
    10
    """
    inside = _is_number(value) and math.isfinite(value) and value == int(value) and least <= value
    if not inside or (most is not None and value > most):
        high = "" if most is None else f" and at most {most}"
        raise ArgumentError(
            f"{name}: expected a whole number of at least {least}{high}, found {value!r}; give such a number."
        )
    return int(value)


def as_seed(value: Any) -> int:
    """Return a seed: a whole number that torch and NumPy take.

    Raises
    ------
    ArgumentError
        For anything else.

    Examples
    --------
    >>> as_seed(0)
    0
    """
    return as_whole("seed", value, 0, 2**63 - 1)


def as_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return one of ``choices``.

    Raises
    ------
    ArgumentError
        For anything else.

    Examples
    --------
    >>> as_choice("mode", "change", ("vanilla", "change"))
    'change'
    """
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(choices)}, found {value!r}; choose one of them.")
    return value


def as_names(name: str, values: Any, what: str) -> list[Any]:
    """Return several names as a list; a text alone would be taken apart into letters.

    Raises
    ------
    ArgumentError
        For a text, and for what is not several of anything.

    Examples
    --------
    >>> as_names("gene_list", ("CD4", "CD8A"), "names of genes")
    ['CD4', 'CD8A']
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        cure = f"give [{values!r}]" if isinstance(values, str) else "put them into a list"
        raise ArgumentError(f"{name}: expected a list of {what}, found {values!r}; {cure}.")
    return list(values)


def as_path(name: str, value: Any, what: str = "a path") -> Path:
    """Return a path on disk; ``what`` says of what.

    Raises
    ------
    ArgumentError
        For what is no path.

    Examples
    --------
    >>> as_path("dir_path", "checkpoint").name
    'checkpoint'
    """
    if not isinstance(value, str | os.PathLike):
        raise ArgumentError(f"{name}: expected {what}, found {value!r}; give one, a path as a text or a pathlib.Path.")
    return Path(value)


def require_flags(**flags: object) -> None:
    """Refuse arguments, by name, that are neither true nor false: any text is true to Python, "no" as well.

    Raises
    ------
    ArgumentError
        Naming the first of them.
    """
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ArgumentError(f"{name}: expected True or False, found {value!r}; choose one of them.")


def require_texts(**texts: object) -> None:
    """Refuse arguments, by name, that are no text; those that are `None` are not asked for.

    Raises
    ------
    ArgumentError
        Naming the first of them.
    """
    for name, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise ArgumentError(f"{name}: expected a name, found {value!r}; give one text.")


def require_type(
    name: str,
    value: object,
    types: type | tuple[type, ...],
    cure: str,
    error: type[TrainingError] = ArgumentError,
) -> None:
    """Refuse an object of another type.

    Raises
    ------
    TrainingError
        An ``error`` that names both types; ``cure`` says what to do.
    """
    if not isinstance(value, types):
        expected = " or ".join(each.__name__ for each in (types if isinstance(types, tuple) else (types,)))
        raise error(f"{name}: expected {expected}, found {type(value).__name__}; {cure}.")


def require_function(name: str, value: Any, n_arguments: int, what: str) -> None:
    """Refuse what cannot be called with so many arguments; ``what`` says which.

    Raises
    ------
    ArgumentError
        Naming the argument.
    """
    if callable(value):
        try:
            inspect.signature(value).bind(*[None] * n_arguments)
            return
        except ValueError:  # some functions written in C do not tell
            return
        except TypeError:
            pass
    raise ArgumentError(f"{name}: expected a function of {what}, found {value!r}; give one that takes these.")


def _is_number(value: object) -> bool:
    """Whether it is a number; to Python, true and false are some."""
    return isinstance(value, Real) and not isinstance(value, bool)
