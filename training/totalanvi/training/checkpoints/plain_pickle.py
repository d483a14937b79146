"""Read a pickle that holds plain values, without unpickling it.

A pickle is a small program, and Python's own reader runs it: one that names a function calls it. Here its steps are
taken one by one, those alone that make numbers, texts, lists, tuples and dictionaries. There is no step that looks up a
name, so that nothing the file says can run.
"""

from __future__ import annotations

import pickletools
from typing import Any

from totalanvi.training.errors import CheckpointError

__all__ = ["read_plain_pickle"]

_MARK = object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "BINUNICODE8",
    "SHORT_BINUNICODE",
}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_plain_pickle(content: bytes) -> Any:
    """Return the value in a pickle of protocol 2 or later.

    Parameters
    ----------
    content
        What ``pickle.dumps`` made of numbers, texts, lists, tuples and dictionaries.

    Raises
    ------
    CheckpointError
        When it is no whole pickle, or holds anything else: the message names the step, and the class or function where
        one is asked for.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for step, argument, _ in pickletools.genops(content):
            name = step.name
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                return _pop(stack)
            if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[int(argument or 0)])
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _VALUES:
                stack.append(argument)
            elif name in _EMPTY:
                stack.append(_EMPTY[name]())
            elif name == "MARK":
                stack.append(_MARK)
            else:
                _collect(name, argument, stack)
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"Expected a whole pickle, found a damaged one ({error}); save the model again."
        ) from error
    raise CheckpointError("Expected a whole pickle, found one that does not end; save the model again.")


def _collect(name: str, argument: Any, stack: list[Any]) -> None:
    """Put values into a list, tuple or dictionary."""
    if name in _TUPLES:
        items = [_pop(stack) for _ in range(_TUPLES[name])]
        stack.append(tuple(reversed(items)))
    elif name == "TUPLE":
        items = _since_mark(stack)
        stack.append(tuple(items))
    elif name in ("APPENDS", "APPEND"):
        items = _since_mark(stack) if name == "APPENDS" else [_pop(stack)]
        list.extend(stack[-1], items)
    elif name in ("SETITEMS", "SETITEM"):
        items = _since_mark(stack) if name == "SETITEMS" else [_pop(stack), _pop(stack)][::-1]
        dict.update(stack[-1], zip(items[::2], items[1::2], strict=True))
    else:
        asked = ".".join(map(str, stack[-2:])) if name == "STACK_GLOBAL" else str(argument or "").replace(" ", ".")
        found = f"{name} ({asked})" if asked else name
        raise CheckpointError(
            f"Expected a pickle of plain values, found the step {found}, which could run code and is not taken; save "
            "the model again, or convert it with scvi-tools first if it made it."
        )


def _pop(stack: list[Any]) -> Any:
    value = stack.pop()
    if value is _MARK:
        raise ValueError("a mark stands where a value should")
    return value


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark, and the mark."""
    start = len(stack) - 1
    while stack[start] is not _MARK:
        start -= 1
        if start < 0:
            raise ValueError("a mark is missing")
    items = stack[start + 1 :]
    del stack[start:]
    return items
