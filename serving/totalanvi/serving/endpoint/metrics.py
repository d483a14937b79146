"""What an endpoint counts, in Prometheus' terms.

Labels are routes, statuses and the references that the operator put there, never anything a client chose.
"""

from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from totalanvi.serving.endpoint.jobs import Job
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.work_queue import WorkQueue
from totalanvi.serving.mapped import MappedCells

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_CELLS = (1, 8, 64, 256, 512, 1024, 2048, 4096, 8192)
_SHARES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_REFERENCE = ("reference", "version")


class Metrics:
    """Counters of one endpoint process.

    BentoML's own metrics are off: they keep a time series for every path that anyone asks for.

    Parameters
    ----------
    queue
        What requests wait in.
    references
        What is served.

    Examples
    --------
    >>> metrics = Metrics(WorkQueue(workers=1, waiting=0), references)  # doctest: +SKIP
    >>> metrics.answered("map", 200, seconds=0.2)  # doctest: +SKIP
    >>> b'totalanvi_requests_total{route="map",status="200"} 1.0' in metrics.exposition()  # doctest: +SKIP
    True
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, queue: WorkQueue, references: References) -> None:
        self._references = references
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = self._counter("requests", "Requests answered.", "route", "status")
        self._request_seconds = self._histogram(
            "request_seconds", "From a request's headers to its answer, waiting included.", _SECONDS, "route"
        )
        self._queue_seconds = self._histogram(
            "queue_seconds", "Time that a request's cells waited for a thread to map them.", _SECONDS, "route"
        )
        self._inference_seconds = self._histogram(
            "inference_seconds", "Time to map the cells of one request.", _SECONDS, "route"
        )
        self._batch_cells = self._histogram("batch_cells", "Cells of one request.", _CELLS, "route")
        self._cells = self._counter("cells", "Cells mapped.", "route")
        self._nonzeros = self._counter("nonzeros", "Counts of mapped cells that were not zero.", "route")
        self._reference_cells = self._counter("reference_cells", "Cells mapped to a reference.", *_REFERENCE)
        self._unknown = self._counter("unknown_cells", "Of these, how many it called unknown.", *_REFERENCE)
        self._confidence = self._counter(
            "confidence", "Sum of the confidences of these; divided by their number it is the mean.", *_REFERENCE
        )
        self._novelty = self._counter(
            "novelty", "Sum of their novelties; divided by their number it is the mean.", *_REFERENCE
        )
        self._gene_weight = self._histogram(
            "alignment_gene_weight",
            "Share of what a reference has learned from genes that the genes of a request carry.",
            _SHARES,
            *_REFERENCE,
        )
        self._gauge("queue_requests", "Requests at work or waiting.").set_function(lambda: queue.taken)
        self._gauge("queue_nonzeros", "What they cost together.").set_function(lambda: queue.cost)
        self._gauge("ready", "1 once requests are taken in.").set_function(
            lambda: references.ready and not queue.draining
        )
        self._offered = self._gauge(
            "reference",
            "For each reference that can be asked for, 1 while it is in memory.",
            "name",
            "version",
            "digest",
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request and how long it took."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def waited(self, route: str, seconds: float) -> None:
        """Count how long a request's cells waited for a thread."""
        self._queue_seconds.labels(route).observe(seconds)

    def mapped(self, route: str, job: Job, mapped: MappedCells, seconds: float) -> None:
        """Count cells, how long they were computed, and what they were mapped to."""
        self._cells.labels(route).inc(len(mapped))
        self._nonzeros.labels(route).inc(job.cells.rna.nnz)
        self._batch_cells.labels(route).observe(len(mapped))
        self._inference_seconds.labels(route).observe(seconds)
        reference = job.offer.info.name, job.offer.info.version
        unknown = mapped.label == len(job.offer.info.labels)
        self._reference_cells.labels(*reference).inc(len(mapped))
        self._unknown.labels(*reference).inc(int(np.count_nonzero(unknown)))
        self._confidence.labels(*reference).inc(float(mapped.confidence.sum(dtype=np.float64)))
        self._novelty.labels(*reference).inc(float(mapped.novelty.sum(dtype=np.float64)))
        if job.gene_weight is not None:
            self._gene_weight.labels(*reference).observe(job.gene_weight)

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        loaded = {offer.digest for offer in self._references.loaded}
        self._offered.clear()
        for offer in self._references.catalogue.offers:
            self._offered.labels(offer.info.name, offer.info.version, offer.digest).set(offer.digest in loaded)
        return generate_latest(self._registry)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(f"totalanvi_{name}", said, labels, registry=self._registry)

    def _gauge(self, name: str, said: str, *labels: str) -> Gauge:
        return Gauge(f"totalanvi_{name}", said, labels, registry=self._registry)

    def _histogram(self, name: str, said: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"totalanvi_{name}", said, labels, buckets=buckets, registry=self._registry)
