"""What an endpoint counts, in Prometheus' terms. Labels are routes and statuses, never anything a client chose."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one endpoint process.

    BentoML's own metrics are off: they keep a time series for every path that anyone asks for.

    Parameters
    ----------
    queued
        Returns how many requests have a place in the queue, running or waiting.

    Examples
    --------
    >>> metrics = Metrics(queued=lambda: 0)
    >>> metrics.answered("map", 200, seconds=0.2)
    >>> b'totalanvi_requests_total{route="map",status="200"} 1.0' in metrics.exposition()
    True
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, queued: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "totalanvi_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._request_seconds = Histogram(
            "totalanvi_request_seconds",
            "From a request's headers to its answer, waiting included.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._cells = Counter("totalanvi_cells", "Cells mapped.", ["route"], registry=self._registry)
        self._inference_seconds = Histogram(
            "totalanvi_inference_seconds",
            "Time to map the cells of one request.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._queued = Gauge("totalanvi_queue_requests", "Requests at work or waiting.", registry=self._registry)
        self._queued.set_function(queued)
        self._ready = Gauge("totalanvi_ready", "1 once the reference is loaded and warm.", registry=self._registry)
        self._reference = Gauge(
            "totalanvi_reference",
            "1 for the reference that is served.",
            ["name", "version", "digest"],
            registry=self._registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request and how long it took."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def mapped(self, route: str, cells: int, seconds: float) -> None:
        """Count cells and how long they were computed."""
        self._cells.labels(route).inc(cells)
        self._inference_seconds.labels(route).observe(seconds)

    def serving(self, name: str, version: str, digest: str) -> None:
        """Say that a reference is ready."""
        self._reference.labels(name, version, digest).set(1)
        self._ready.set(1)

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
