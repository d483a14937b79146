"""Memory of a CUDA device, and the way there and back: page-locked buffers, and no lock of Python meanwhile.

ONNX Runtime's own ways between arrays and a device hold that lock while they copy, and copy from memory that the driver
has to copy once more. The driver itself is asked (`totalanvi.serving.engine.cuda_driver`), as it is there wherever a
device is.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from totalanvi.serving.engine.cuda_driver import Driver, Landings, Lane
from totalanvi.serving.engine.memory import Array, Staging, naming_failures
from totalanvi.serving.engine.sessions import Device

if TYPE_CHECKING:
    from onnxruntime import OrtValue

__all__ = ["CudaMemory"]

_NUMBER = 0
"""Of the device, as CUDA counts those that this process may use: sessions compute on the first one."""


class CudaMemory:
    """The memory of a CUDA device: see `totalanvi.serving.engine.memory.Memory`.

    Raises
    ------
    DeviceError
        When the driver fails.
    """

    device: Device = "cuda"

    def __init__(self) -> None:
        with naming_failures(self.device, "open"):
            self._driver = Driver(_NUMBER)
        self._idle: list[Lane] = []  # as many as were needed at a time
        self._landings = Landings(self._driver)
        weakref.finalize(self, _end, self._driver, self._landings, self._idle).atexit = False

    def put(self, array: Array) -> OrtValue:
        """Copy an array to the device; from `staging` it goes without another copy on the way."""
        from onnxruntime import OrtValue

        with naming_failures(self.device, f"take {array.nbytes} bytes"):
            array = np.ascontiguousarray(array)
            value = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self.device, _NUMBER)
            with self._lane() as lane:
                lane.copy(array, value.data_ptr())
        return value

    def room(self, shape: tuple[int, ...]) -> OrtValue:
        """Return room for single precision numbers."""
        from onnxruntime import OrtValue

        with naming_failures(self.device, f"make room for numbers of shape {shape}"):
            return OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self.device, _NUMBER)

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """Lend page-locked memory."""
        with self._lane() as lane:
            yield lane.room

    def landing(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return page-locked room, for as long as anybody has the array or a view of it."""
        with naming_failures(self.device, f"make way for numbers of shape {shape}"):
            return self._landings.lend(4 * math.prod(shape)).view(np.float32).reshape(shape)

    def get(self, value: OrtValue) -> npt.NDArray[np.float32]:
        """Copy single precision numbers from the device."""
        array = self.landing(tuple(value.shape()))
        with naming_failures(self.device, f"send {array.nbytes} bytes"), self._lane() as lane:
            lane.fetch(value.data_ptr(), array)
        return array

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        # Taking from a list and adding to it are each one step for all threads.
        try:
            lane = self._idle.pop()
        except IndexError:
            lane = Lane(self._driver)
        yield lane
        # After a failure it is not used again.
        self._idle.append(lane)


def _end(driver: Driver, landings: Landings, lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.end()
    landings.end()
    driver.release()
