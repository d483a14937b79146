"""The CUDA driver, asked through `ctypes`, and page-locked memory, which a device copies to and from by itself."""

from __future__ import annotations

import ctypes
import sys
import weakref
from ctypes import POINTER, byref, c_int, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.memory import Array

__all__ = ["Driver", "Lane", "Landings"]

_NON_BLOCKING = 1
_PORTABLE = 1
_LEAST_BYTES = 4096
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
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
}
"""What is asked of the driver, by name, with the types of the arguments; each returns 0 when all is well."""


class Driver:
    """The CUDA driver, in the context that ONNX Runtime computes in: the device's primary one."""

    def __init__(self, number: int) -> None:
        library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        self._library = ctypes.CDLL(library)
        for name, types in _FUNCTIONS.items():
            getattr(self._library, name).argtypes = types
        # So short that giving Python's lock away, and waiting for it, would take longer.
        self._set_current = ctypes.PyDLL(library).cuCtxSetCurrent
        self._set_current.argtypes = [c_void_p]
        device, self._context = c_int(), c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(device), number)
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self._device = device

    def __call__(self, name: str, *arguments: object) -> None:
        """Call a function; a thread has to be told of the context once, and telling it again costs next to nothing."""
        _require_success("cuCtxSetCurrent", self._set_current(self._context))
        self._call(name, *arguments)

    def release(self) -> None:
        """Give the context back."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, name: str, *arguments: object) -> None:
        _require_success(name, getattr(self._library, name)(*arguments))


def _require_success(name: str, code: int) -> None:
    if code != 0:
        raise RuntimeError(f"{name} of the CUDA driver returned {code}")


def _page_locked(driver: Driver, n_bytes: int) -> int:
    """Return the address of new page-locked memory."""
    address = c_void_p()
    driver("cuMemHostAlloc", byref(address), n_bytes, _PORTABLE)
    return address.value or 0


def _bytes_at(address: int, n_bytes: int) -> ctypes.Array[ctypes.c_uint8]:
    return (ctypes.c_uint8 * n_bytes).from_address(address)


class Lane:
    """A stream, and page-locked memory of this process, as much as was needed at once so far."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self._stream, self._address = driver, c_void_p(), 0
        self._bytes = np.empty(0, dtype=np.uint8)
        driver("cuStreamCreate", byref(self._stream), _NON_BLOCKING)

    def copy(self, array: Array, address: int) -> None:
        """Copy an array to the device, and wait until it is there."""
        self._driver("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self._stream)
        self._driver("cuStreamSynchronize", self._stream)

    def fetch(self, address: int, array: Array) -> None:
        """Copy from the device into an array, and wait until it is there."""
        self._driver("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self._stream)
        self._driver("cuStreamSynchronize", self._stream)

    def room(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Return page-locked memory."""
        if n_bytes > len(self._bytes):
            self._free()
            # A power of two, so that it is soon large enough for all blocks.
            size = 1 << (n_bytes - 1).bit_length()
            self._address = _page_locked(self._driver, size)
            self._bytes = np.ctypeslib.as_array(_bytes_at(self._address, size))
        return self._bytes[:n_bytes]

    def end(self) -> None:
        """Give everything back."""
        self._free()
        self._driver("cuStreamDestroy_v2", self._stream)

    def _free(self) -> None:
        if self._address:
            self._bytes = np.empty(0, dtype=np.uint8)
            self._driver("cuMemFreeHost", self._address)
            self._address = 0


class Landings:
    """Page-locked memory of this process that is lent as arrays, and lent again once nobody has them any more.

    All of it has to be back before it ends.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._idle: dict[int, list[int]] = {}
        """Addresses, by how many bytes there are."""

    def lend(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Return memory, which holds anything."""
        # Powers of two, so that few sizes are soon enough for all.
        size = 1 << max(n_bytes - 1, _LEAST_BYTES - 1).bit_length()
        idle = self._idle.setdefault(size, [])
        try:
            address = idle.pop()
        except IndexError:
            address = _page_locked(self._driver, size)
        memory = _bytes_at(address, size)
        # Views of an array keep it, and it keeps this.
        weakref.finalize(memory, idle.append, address).atexit = False
        return np.frombuffer(memoryview(memory), dtype=np.uint8)[:n_bytes]

    def end(self) -> None:
        """Give everything back."""
        for idle in self._idle.values():
            for address in idle:
                self._driver("cuMemFreeHost", address)
