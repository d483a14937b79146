"""What is sent to a GPU arrives there, and several threads send at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from totalanvi.serving.engine.cuda_memory import CudaMemory
from totalanvi.serving.engine.memory import on_host


@pytest.mark.parametrize("n_numbers", [0, 1, 1_000_000])
def test_what_is_sent_arrives(n_numbers: int) -> None:
    memory = CudaMemory()
    sent = np.arange(n_numbers, dtype=np.float32)
    np.testing.assert_array_equal(on_host(memory.put(sent)), sent)
    with memory.staging() as staging:
        staged = staging(4 * n_numbers).view(np.float32)
        staged[:] = sent[::-1]
        np.testing.assert_array_equal(on_host(memory.put(staged)), sent[::-1])


def test_what_was_sent_comes_back_into_room_of_its_own() -> None:
    memory = CudaMemory()
    sent = np.arange(2_000_000, dtype=np.float32).reshape(-1, 20)
    value = memory.put(sent)
    part = memory.get(value)[7:9]
    other = memory.landing(sent.shape)
    other[:] = -1
    np.testing.assert_array_equal(part, sent[7:9])
    address = other.ctypes.data
    del other
    assert memory.landing(sent.shape).ctypes.data == address
    np.testing.assert_array_equal(memory.get(value), sent)


def test_threads_do_not_share_buffers() -> None:
    memory = CudaMemory()

    def send(number: int) -> bool:
        with memory.staging() as staging:
            staged = staging(4_000_000).view(np.float32)
            staged[:] = number
            return bool((memory.get(memory.put(staged)) == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(send, range(100)))
