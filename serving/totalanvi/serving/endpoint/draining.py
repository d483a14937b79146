"""Going away in order: first nothing new is taken in, then the process ends.

A load balancer learns from ``/readyz`` that an endpoint goes away, which takes it a moment. Until then requests still
come here, and should be told to go elsewhere rather than find nobody.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType

from totalanvi.serving.endpoint.work_queue import WorkQueue

__all__ = ["drain_before_end"]


def drain_before_end(queue: WorkQueue, seconds: float) -> None:
    """Have SIGTERM close a queue to what is new, and only after some seconds do what it did before.

    To be called in the main thread, once the server has set its own handler; in any other thread nothing is changed.

    Parameters
    ----------
    queue
        What is drained.
    seconds
        How long new requests are still answered, with 503; a second signal ends that.
    """
    previous = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        return
    end = previous
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        if queue.draining or not seconds:
            queue.drain()
            end(number, frame)
            return
        queue.drain()
        loop.call_soon_threadsafe(loop.call_later, seconds, end, number, None)

    signal.signal(signal.SIGTERM, handle)
