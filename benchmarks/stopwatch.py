"""Time of the clock and of the processors, by name, for things that are done in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["Stopwatch"]


class Stopwatch:
    """Collects how long things take.

    Where other work shares the machine, the clock says little, and flatters what has more processes: they get a larger
    share of it. Time of the processors is that of all who took part.

    Examples
    --------
    >>> watch = Stopwatch()
    >>> watch.time("sum", lambda: sum(range(1000)), times=3)
    >>> len(watch.seconds["sum"]), len(watch.processor["sum"])
    (3, 1)
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def time(
        self, name: str, work: Callable[[], object], others: Callable[[], float] | None = None, times: int = 1
    ) -> None:
        """Do something, some times in a row.

        Parameters
        ----------
        name
            What it is.
        work
            Does it.
        others
            Returns the processor seconds that other processes have used so far, None where there are none.
        times
            How often; each is timed by the clock, all together by the processors.
        """
        used = _used(others)
        for _ in range(times):
            started = time.perf_counter()
            work()
            self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        self.processor.setdefault(name, []).append((_used(others) - used) / times)

    def note(self, name: str, seconds: float, processor: float) -> None:
        """Take over what was measured elsewhere."""
        self.seconds.setdefault(name, []).append(seconds)
        self.processor.setdefault(name, []).append(processor)

    @staticmethod
    def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
        """Return the median of each."""
        return {name: round(statistics.median(each), 5) for name, each in found.items()}

    @staticmethod
    def ratios(found: Mapping[str, list[float]], beside: str) -> dict[str, float]:
        """Return how long ``NAME beside`` takes, as a share of ``NAME``, for medians of those that have both."""
        medians = {name: statistics.median(each) for name, each in found.items()}
        pairs = {name: f"{name} {beside}" for name in medians if f"{name} {beside}" in medians}
        return {name: round(medians[other] / medians[name], 3) for name, other in pairs.items() if medians[name]}


def _used(others: Callable[[], float] | None) -> float:
    return time.process_time() + (0.0 if others is None else others())
