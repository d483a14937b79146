"""Memory of a CUDA device, and the way there: page-locked buffers, a stream for each, and no lock of Python meanwhile.

ONNX Runtime's own ways from an array to a device hold that lock while they copy, and copy from memory that the driver
has to copy once more. The driver itself is asked through `ctypes`, as it is there wherever a device is.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.memory import Array, Staging, naming_failures
from totalanvi.serving.engine.sessions import Device

if TYPE_CHECKING:
    from onnxruntime import OrtValue

__all__ = ["CudaMemory"]

_NON_BLOCKING = 1
_PORTABLE = 1
_FUNCTIONS = {
    "cuInit": [c_uint],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamDestroy_v2": [c_void_p],
    "cuMemHostAlloc": [POINTER(c_void_p), c_size_t, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
}
"""What is asked of the driver, by name, with the types of the arguments; each returns 0 when all is well."""


class _Driver:
    """The CUDA driver, in the context that ONNX Runtime computes in: the device's primary one."""

    def __init__(self, number: int) -> None:
        self._library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        for name, types in _FUNCTIONS.items():
            getattr(self._library, name).argtypes = types
        device, self._context = c_int(), c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(device), number)
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self._device = device

    def __call__(self, name: str, *arguments: object) -> None:
        """Call a function; a thread has to be told of the context once, and telling it again costs next to nothing."""
        self._call("cuCtxSetCurrent", self._context)
        self._call(name, *arguments)

    def release(self) -> None:
        """Give the context back."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, name: str, *arguments: object) -> None:
        if (code := getattr(self._library, name)(*arguments)) != 0:
            raise RuntimeError(f"{name} of the CUDA driver returned {code}")


class _Lane:
    """A stream, and page-locked memory of this process, as much as was needed at once so far."""

    def __init__(self, driver: _Driver) -> None:
        self._driver, self._stream, self._address = driver, c_void_p(), c_void_p()
        self._bytes = np.empty(0, dtype=np.uint8)
        driver("cuStreamCreate", byref(self._stream), _NON_BLOCKING)

    def copy(self, array: Array, address: int) -> None:
        """Copy an array to the device, and wait until it is there."""
        self._driver("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self._stream)
        self._driver("cuStreamSynchronize", self._stream)

    def room(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Return page-locked memory."""
        if n_bytes > len(self._bytes):
            self._free()
            # A power of two, so that it is soon large enough for all blocks.
            size = 1 << (n_bytes - 1).bit_length()
            self._driver("cuMemHostAlloc", byref(self._address), size, _PORTABLE)
            buffer = (ctypes.c_uint8 * size).from_address(self._address.value or 0)
            self._bytes = np.ctypeslib.as_array(buffer)
        return self._bytes[:n_bytes]

    def end(self) -> None:
        """Give everything back."""
        self._free()
        self._driver("cuStreamDestroy_v2", self._stream)

    def _free(self) -> None:
        if self._address.value:
            self._bytes = np.empty(0, dtype=np.uint8)
            self._driver("cuMemFreeHost", self._address)
            self._address.value = None


class CudaMemory:
    """The memory of a CUDA device: see `totalanvi.serving.engine.memory.Memory`.

    Parameters
    ----------
    number
        Of the device, as CUDA counts those that this process may use.

    Raises
    ------
    DeviceError
        When the driver fails.
    """

    device: Device = "cuda"

    def __init__(self, number: int = 0) -> None:
        with naming_failures(self.device, "open"):
            self._driver = _Driver(number)
        self._number = number
        self._idle: list[_Lane] = []  # as many as were needed at a time
        weakref.finalize(self, _end, self._driver, self._idle).atexit = False

    def put(self, array: Array) -> OrtValue:
        """Copy an array to the device; from `staging` it goes without another copy on the way."""
        from onnxruntime import OrtValue

        with naming_failures(self.device, f"take {array.nbytes} bytes"):
            array = np.ascontiguousarray(array)
            value = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self.device, self._number)
            with self._lane() as lane:
                lane.copy(array, value.data_ptr())
        return value

    def room(self, shape: tuple[int, ...]) -> OrtValue:
        """Return room for single precision numbers."""
        from onnxruntime import OrtValue

        with naming_failures(self.device, f"make room for numbers of shape {shape}"):
            return OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self.device, self._number)

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """Lend page-locked memory."""
        with self._lane() as lane:
            yield lane.room

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        # Taking from a list and adding to it are each one step for all threads.
        try:
            lane = self._idle.pop()
        except IndexError:
            lane = _Lane(self._driver)
        yield lane
        # After a failure it is not used again.
        self._idle.append(lane)


def _end(driver: _Driver, lanes: list[_Lane]) -> None:
    for lane in lanes:
        lane.end()
    driver.release()
