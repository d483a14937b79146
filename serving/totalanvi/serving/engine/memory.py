"""Where graphs find their inputs: this process's memory, or a device's (`totalanvi.serving.engine.cuda_memory`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.sessions import Device
from totalanvi.serving.errors import DeviceError

if TYPE_CHECKING:
    from onnxruntime import OrtValue

__all__ = ["Array", "HostMemory", "Memory", "Staging", "Value", "naming_failures", "on_host"]

Array: TypeAlias = npt.NDArray[np.generic]
Value = Union[Array, "OrtValue"]
"""An array of this process, or what lies where graphs compute."""

Staging = Callable[[int], npt.NDArray[np.uint8]]
"""Returns room for so many bytes, in the place of what it returned before."""


class Memory(Protocol):
    """The memory of what computes. Safe to use from several threads."""

    @property
    def device(self) -> Device:
        """Whose it is."""

    def put(self, array: Array) -> OrtValue:
        """Return the array there; it may be its own memory where that is the same."""

    def room(self, shape: tuple[int, ...]) -> OrtValue:
        """Return room for single precision numbers there, which hold anything."""

    def staging(self) -> AbstractContextManager[Staging]:
        """Lend memory of this process that `put` takes arrays from quickly, for the time of a block."""

    def landing(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return room in this process that results arrive in quickly, which hold anything; not for long."""

    def get(self, value: OrtValue) -> npt.NDArray[np.float32]:
        """Return single precision numbers as an array of this process, in room as that of `landing`."""


class HostMemory:
    """The memory of this process."""

    device: Device = "cpu"

    def put(self, array: Array) -> OrtValue:
        """Return the array itself, for ONNX Runtime."""
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))

    def room(self, shape: tuple[int, ...]) -> OrtValue:
        """Return room for single precision numbers, which arrays made of it keep alive."""
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_shape_and_type(shape, np.float32)

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """Make new room each time, since it stays where it is put."""
        yield lambda n_bytes: np.empty(n_bytes, dtype=np.uint8)

    def landing(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return new room."""
        return np.empty(shape, dtype=np.float32)

    def get(self, value: OrtValue) -> npt.NDArray[np.float32]:
        """Return the numbers where they are."""
        return on_host(value)


def on_host(value: Value) -> npt.NDArray[np.float32]:
    """Return single precision numbers as an array of this process: what was put there must outlive it."""
    return np.asarray(value if isinstance(value, np.ndarray) else value.numpy(), dtype=np.float32)


@contextmanager
def naming_failures(device: Device, task: str) -> Iterator[None]:
    """Turn whatever fails on a device other than the CPU into an error that names it.

    Raises
    ------
    DeviceError
        When the device failed; what CUDA lost, a process does not get back.
    """
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:  # ONNX Runtime's own exceptions have no common base but this one
        if device == "cpu":
            raise
        raise DeviceError(
            f"Expected the device {device!r} to {task}, found that it failed ({type(error).__name__}); see whether "
            "it is still there, and start again."
        ) from error
