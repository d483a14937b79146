"""Reading what scvi-tools pickles as plain values, without running anything that the file names.

A saved model is a pickle: besides tensors it holds NumPy arrays, and pandas tables of the training history. Torch's own
reader of weights runs no code of a file. Here it knows a few more names, each of which stands for something inert, and
not for what it is called. A file with any other name in it is refused before it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from totalanvi.training.errors import CheckpointError

__all__ = ["read_inert"]

_KINDS = "biufUSO"
"""Kinds of NumPy values that a saved model may hold: numbers, strings, objects that are again read as plain values."""


class _DType:
    """An array's type, as NumPy pickles it."""

    byte_order = "="

    def __init__(self, code: str, *_: object):
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]

    def numpy(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in _KINDS or dtype.fields is not None:
            raise ValueError(f"an array of type {self.code!r}")
        return dtype if self.byte_order == "|" else dtype.newbyteorder(self.byte_order)  # type: ignore[arg-type]


class _Array:
    """An array, as NumPy pickles it."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def numpy(self) -> npt.NDArray[Any]:
        _, shape, dtype, is_fortran, content = self.state
        if dtype.code.startswith("O"):
            flat = np.empty(len(content), dtype=object)
            flat[:] = [_plain(item) for item in content]
        else:
            flat = np.frombuffer(content, dtype.numpy())
        return flat.reshape(shape, order="F" if is_fortran else "C").copy()


class _Scalar:
    """A number of NumPy, as it is pickled."""

    def __init__(self, dtype: _DType, content: Any):
        self.dtype, self.content = dtype, content

    def python(self) -> Any:
        return np.frombuffer(self.content, self.dtype.numpy())[0].item()


class _Ignored:
    """Something that an import does not need, such as a table of the training history; nothing of it is kept."""

    def __init__(self, *_: object, **__: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _array(*_: object) -> _Array:
    return _Array()


def _empty_dict(*_: object) -> dict[object, object]:
    return {}


def _empty_bytes() -> bytes:
    return b""


_STAND_INS: dict[str, Callable[..., object]] = {
    "builtins.bytes": _empty_bytes,  # how the older protocols of pickle write empty bytes
    "builtins.dict": dict,  # what a defaultdict makes
    "builtins.slice": _Ignored,
    "collections.defaultdict": _empty_dict,
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _Scalar for core in ("core", "_core")},
}
_IGNORED = ("pandas.", "pyarrow.")
"""Whose objects an import does not need: they hold the training history."""


def read_inert(file: Path) -> Any:
    """Read a file that `torch.save` wrote as dicts, lists, strings, numbers, arrays and tensors.

    Parameters
    ----------
    file
        ``model.pt`` of a saved model.

    Raises
    ------
    CheckpointError
        When the file names what a saved model has no need of, or cannot be read. Nothing of it has been run.
    """
    try:
        named = get_unsafe_globals_in_checkpoint(file)
        unknown = sorted(name for name in named if name not in _STAND_INS and not name.startswith(_IGNORED))
        if unknown:
            raise CheckpointError(
                f"Expected tensors, arrays and plain values in {file}, found that reading it would call "
                f"{', '.join(unknown[:5])}, of which a saved TOTALVI or TOTALANVI has no need; nothing of it was run. "
                "Save the model anew with scvi-tools if you trust it, and leave it alone if you do not."
            )
        stand_ins: list[Any] = [(_STAND_INS.get(name, _Ignored), name) for name in named]
        with safe_globals(stand_ins):
            content = torch.load(file, map_location="cpu", weights_only=True)
        return _plain(content)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged file makes torch's reader raise
        first = str(error).split("\n", 1)[0][:200]
        raise CheckpointError(
            f"Expected a model that scvi-tools saved in {file}, found a file that cannot be read "
            f"({type(error).__name__}: {first}); save the model anew, or restore the file."
        ) from error


def _plain(value: Any) -> Any:
    """``value`` without stand-ins."""
    if isinstance(value, _Array):
        return value.numpy()
    if isinstance(value, _Scalar):
        return value.python()
    if isinstance(value, _Ignored | _DType):
        return None
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value
