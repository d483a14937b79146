"""Graphs that compute from what is in their memory, or is put there, and leave there what the next one needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.graphs import GraphSignature
from totalanvi.serving.engine.memory import Memory, Value, naming_failures
from totalanvi.serving.engine.sessions import Sessions

if TYPE_CHECKING:
    from onnxruntime import IOBinding, OrtValue

__all__ = ["Floats", "Graphs"]

Floats = npt.NDArray[np.float32]


class Graphs:
    """Computes the graphs of a bundle. Safe to use from several threads, each of which waits for its own results.

    Parameters
    ----------
    sessions
        By the graph's file.
    memory
        Of the device that they compute on.
    widths
        Columns of each output.
    """

    def __init__(self, sessions: Sessions, memory: Memory, widths: Mapping[str, int]) -> None:
        self._sessions, self._memory, self._widths = sessions, memory, widths
        self._device = memory.device

    def __contains__(self, graph: GraphSignature) -> bool:
        return graph.file in self._sessions

    def stay(self, graph: GraphSignature, feed: Mapping[str, Value], n_rows: int) -> list[OrtValue]:
        """Compute a graph, and leave its outputs where it computes; see `compute`."""
        return self.compute(graph, feed, n_rows, left=graph.outputs)[0]

    def fetch(self, graph: GraphSignature, feed: Mapping[str, Value], n_rows: int) -> list[Floats]:
        """Compute a graph, and bring its outputs into this process; see `compute`."""
        return self.compute(graph, feed, n_rows, fetched=graph.outputs)[1]

    def compute(
        self,
        graph: GraphSignature,
        feed: Mapping[str, Value],
        n_rows: int,
        left: Sequence[str] = (),
        fetched: Sequence[str] = (),
    ) -> tuple[list[OrtValue], list[Floats]]:
        """Compute a graph.

        Parameters
        ----------
        graph
            Which.
        feed
            Its inputs by name, and maybe others.
        n_rows
            Rows of its outputs.
        left, fetched
            Outputs that are left where it computes, and those that are brought into this process. What is neither is
            computed all the same.

        Returns
        -------
        Those that were left, and those that were fetched.

        Raises
        ------
        DeviceError
            When a device other than the CPU fails.
        """
        arrays = [self._memory.landing((n_rows, self._widths[name])) for name in fetched]
        with naming_failures(self._device, f"compute {graph.file}"):
            binding = self._bound(graph, feed)
            values = [self._memory.room((n_rows, self._widths[name])) for name in left]
            for name, value in zip(left, values, strict=True):
                binding.bind_ortvalue_output(name, value)
            for name, array in zip(fetched, arrays, strict=True):
                # ONNX Runtime copies into it before it takes Python's lock again.
                binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            self._sessions[graph.file].run_with_iobinding(binding)
        return values, arrays

    def _bound(self, graph: GraphSignature, feed: Mapping[str, Value]) -> IOBinding:
        binding: IOBinding = self._sessions[graph.file].io_binding()
        for name in graph.inputs:
            value = feed[name]
            binding.bind_ortvalue_input(name, self._memory.put(value) if isinstance(value, np.ndarray) else value)
        return binding
