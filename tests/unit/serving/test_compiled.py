"""Compiled loops: made once, whoever asks for them at a time."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from totalanvi.serving.engine.ahead import compile_ahead
from totalanvi.serving.engine.compiled import compiled, given, room


def test_loops_that_threads_ask_for_at_a_time_are_made_once() -> None:
    made: list[Callable[..., None]] = []

    def make() -> Callable[..., None]:
        def double(values: np.ndarray, out: np.ndarray) -> None:
            for i in range(out.shape[0]):
                out[i] = 2 * values[i]

        made.append(double)
        return double

    def ask(_: int) -> Callable[..., None]:
        return compiled(make, given("float64", 1), room("float64", 1), made=True)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(made) == len(set(map(id, found))) == 1
    out = np.empty(2)
    found[0](np.array([1.0, 4.0]), out)
    assert out.tolist() == [2.0, 8.0]


@pytest.mark.parametrize("was_enabled", [True, False])
def test_garbage_is_collected_after_compiling_as_before(was_enabled: bool) -> None:
    (gc.enable if was_enabled else gc.disable)()
    try:
        for paired in (None, True, False):
            compile_ahead(readout=True, paired=paired)
        for thread in threading.enumerate():
            if thread.name == "totalanvi-compile":
                thread.join()
        assert gc.isenabled() == was_enabled
    finally:
        gc.enable()


FORKING = """
import gc, os
from totalanvi.serving.garbage import left_alone

with left_alone():
    child = os.fork()
    if child == 0:
        os._exit(0 if gc.isenabled() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_garbage_is_collected_in_a_forked_process() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]
