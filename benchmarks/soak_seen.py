"""What came back from an endpoint under load, what it cost, and whether that is as promised."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Seen"]

WARM_SHARE, EDGE_SHARE = 0.2, 0.15
"""Of the run: what memory is not judged by, and the parts at either end of the rest that are compared."""
MOST_GROWTH = 0.05
MOST_PROBE_SECONDS = 10.0


@dataclass
class Seen:
    """What came back, and what it cost."""

    statuses: Counter[str] = field(default_factory=Counter)
    cells: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    """When an answer came, and how long it took."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def edges(self, values: list[tuple[float, Any]]) -> tuple[list[Any], list[Any]]:
        """Return what was seen at the beginning and at the end of the time after warm-up."""
        end = max((when for when, _ in values), default=0)
        start, width = WARM_SHARE * end, EDGE_SHARE * end
        first = [value for when, value in values if start <= when < start + width]
        return first, [value for when, value in values if when >= end - width]

    def tenths(self) -> list[list[int]]:
        """Return the memory of the endpoint's processes in ten parts of the run."""
        end = max((when for when, _ in self.memory), default=0)
        return [
            [value for when, value in self.memory if tenth * end / 10 < when <= (tenth + 1) * end / 10]
            for tenth in range(10)
        ]

    def growth(self) -> float:
        """Return by what share the memory of all of the endpoint's processes has grown since it was warm."""
        first, last = self.edges(self.memory)
        return float(np.median(last) / np.median(first) - 1)

    def figures(self, minutes: float) -> dict[str, Any]:
        """Return what a reader wants to know."""
        first, last = (np.median(part) for part in self.edges(self.seconds))
        taken = [seconds for _, seconds in self.seconds]
        return {
            "minutes": minutes,
            "answers": dict(self.statuses),
            "cells": self.cells,
            "wrong": len(self.wrong),
            "latency_seconds": {str(p): round(float(np.percentile(taken, p)), 3) for p in (50, 90, 99)},
            "median_latency_after_warm_up_and_at_the_end": [round(float(first), 3), round(float(last), 3)],
            "memory_mb": [round(float(np.median(part)) / 2**20) for part in self.edges(self.memory)],
            "memory_growth": round(self.growth(), 4),
            "memory_mb_in_tenths": [round(float(np.median(part)) / 2**20) for part in self.tenths() if part],
            "livez_seconds": {str(p): round(float(np.percentile(self.probes, p)), 3) for p in (50, 99, 100)},
            "load_average": round(os.getloadavg()[0], 1),
        }

    def problems(self) -> list[str]:
        """Say what is not as promised."""
        others = {status: count for status, count in self.statuses.items() if status not in ("200", "429")}
        return [
            *([f"Expected answers of status 200 and 429 alone, found {others}."] if others else []),
            *([] if self.statuses["200"] else ["Expected answers, found none."]),
            *(
                [f"Expected right answers alone, found {len(self.wrong)} others: {self.wrong[0]}."]
                if self.wrong
                else []
            ),
            *(
                [f"Expected flat memory, found that it grew by {self.growth():.1%}."]
                if self.growth() > MOST_GROWTH
                else []
            ),
            *(
                [f"Expected /livez at once, found {max(self.probes):.1f} s."]
                if max(self.probes) > MOST_PROBE_SECONDS
                else []
            ),
        ]
