"""Recording work of a GPU as a CUDA graph, the way torch describes it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["CudaGraphs"]


class CudaGraphs:
    """Records work on one CUDA device.

    Parameters
    ----------
    device
        The device.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work on the stream that will record it, so that what is made once, a workspace for one, exists."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work without doing it; return what does it, on the current stream.

        Raises
        ------
        RuntimeError
            When the work waits for the device, or does something else that cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[self._device.index or 0]
        before = generator.get_state()
        try:
            # The outer one takes the current stream back, whatever becomes of the inner one.
            with (
                _without_garbage(),
                torch.cuda.stream(torch.cuda.current_stream(self._device)),
                torch.cuda.graph(graph, stream=self._stream),
            ):
                work()
        except RuntimeError:
            # A record that broke off leaves the random numbers waiting for its end: they go on from where they were.
            fresh = torch.Generator(self._device)
            fresh.set_state(before)
            generator.graphsafe_set_state(fresh.graphsafe_get_state())
            raise
        return graph.replay


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Keep Python from finding garbage meanwhile: the record of an earlier run that goes would break this one off."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
