"""What an endpoint does, HTTP aside: find the reference that is meant, understand a request, and map its cells."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from totalanvi.serving.endpoint.access.account import charge
from totalanvi.serving.endpoint.bodies import Bodies
from totalanvi.serving.endpoint.catalogue import Offer
from totalanvi.serving.endpoint.jobs import Answer, Find, Job
from totalanvi.serving.endpoint.metrics import Metrics
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.request_log import note
from totalanvi.serving.endpoint.work_queue import Slot, WorkQueue
from totalanvi.serving.errors import DeviceError, QueryError
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.version import software_version
from totalanvi.serving.wire.arrow_stream import decompress
from totalanvi.serving.wire.limits import Limits
from totalanvi.serving.wire.protocol import PROTOCOL
from totalanvi.serving.wire.schemas import EndpointInfo, LabelsAnswer, ReferenceListed, ReferencesAnswer

__all__ = ["Asked", "Endpoint", "Understand"]

_log = logging.getLogger(__name__)

Understand = Callable[[bytes, Find, Limits], Job]
"""Turns a body into a job; see `totalanvi.serving.endpoint.jobs`."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A request with cells, as it came.

    Parameters
    ----------
    route
        What it is counted as.
    understand
        Knows the body's format.
    body, compressed
        What came, and whether it is compressed.
    max_bytes
        How long it may be once it is not.
    reference
        The reference that was asked for beside the body, if one was.
    """

    route: str
    understand: Understand
    body: bytes
    max_bytes: int
    compressed: bool = False
    reference: str | None = None


def _end_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Endpoint:
    """References, ready to answer requests.

    Parameters
    ----------
    limits
        What requests may cost.
    references
        What they may be mapped to.
    end
        Ends the process in order, so that another takes its place.

    Attributes
    ----------
    queue : WorkQueue
        Where requests with cells take their places.
    bodies : Bodies
        Reads what these send.
    metrics : Metrics
        What has been answered so far.
    """

    def __init__(self, limits: Limits, references: References, end: Callable[[], None] = _end_process) -> None:
        self.limits = limits
        self.references = references
        self._end = end
        self.queue = WorkQueue(limits.max_concurrency, limits.max_queue, limits.max_queue_nonzeros)
        self.bodies = Bodies(limits.max_arriving_bytes)
        self.metrics = Metrics(self.queue, references)
        self._started = False

    @property
    def ready(self) -> bool:
        """Whether requests are taken in: the default reference is loaded and warm, and nothing is shutting down."""
        return self.references.ready and not self.queue.draining

    def start(self) -> None:
        """Load and warm the default reference in the background, so that liveness can be asked for meanwhile; once."""
        if not self._started:
            self._started = True
            self.references.start()

    def close(self) -> None:
        """Let go of what waits in the queue."""
        self.references.close()
        self.queue.close()

    def info(self, name: str | None = None) -> bytes:
        """Return a reference and the limits as JSON.

        Parameters
        ----------
        name
            Of the reference, with ``@VERSION`` or without; None for the default one.

        Raises
        ------
        ServingError
            Like all that follow, when there is no such reference, see `References.find`.
        """
        offer = self.references.find(name)
        info = offer.info.model_dump() | {"provider": self.references.provider(offer)}
        answer = EndpointInfo(**info, protocol=PROTOCOL, server=software_version(), limits=self.limits)
        return answer.model_dump_json().encode()

    def features(self, name: str | None = None) -> bytes:
        """Return what queries are aligned to, and its digest, as JSON."""
        return self.references.find(name).features_answer

    def labels(self, name: str | None = None) -> bytes:
        """Return the names of the labels as JSON."""
        return LabelsAnswer(labels=list(self.references.find(name).features.labels)).model_dump_json().encode()

    def landmarks(self, name: str | None = None) -> bytes:
        """Return the places of a reference's own cells on its map, x and y of each, as little-endian float32."""
        return self.references.find(name).landmarks.astype("<f4").tobytes()

    def listing(self) -> bytes:
        """Return all references as JSON."""
        catalogue = self.references.catalogue
        default = self.references.default()
        loaded = {offer.digest for offer in self.references.loaded}
        listed = [
            ReferenceListed(
                name=offer.info.name,
                version=offer.info.version,
                digest=offer.digest,
                created=offer.info.created,
                default=offer is default,
                loaded=offer.digest in loaded,
                n_genes=offer.info.n_genes,
                n_proteins=len(offer.info.proteins),
                n_labels=len(offer.info.labels),
            )
            for offer in catalogue.offers
        ]
        return ReferencesAnswer(references=listed, refused=catalogue.refused).model_dump_json().encode()

    async def answer(self, route: str, understand: Understand, body: bytes) -> Answer:
        """Answer a request whose body is here already; see `answer_in`."""
        with self.queue.admit() as slot:
            return await self.answer_in(slot, Asked(route, understand, body, self.limits.max_body_bytes))

    async def answer_in(self, slot: Slot, asked: Asked) -> Answer:
        """Understand a request beside the queue, and compute its answer in the queue.

        Parameters
        ----------
        slot
            The request's place.
        asked
            What came.

        Raises
        ------
        ServingError
            Whatever is wrong with the request, or a `BusyError` when it is too much for now.
        """
        job = await slot.read(lambda: self._understand(asked))
        note(reference=job.offer.full_name, cells=len(job.cells), nonzeros=int(job.cells.rna.nnz))
        slot.charge(job.cost)
        charge(len(job.cells))
        lease = await self.references.lease(job.offer)
        slot.at_end(lease.release)
        answer = await slot.run(lambda: self._compute(asked.route, job, lease.reference, slot.abandoned))
        self.metrics.waited(asked.route, slot.wait_seconds)
        return answer

    def _understand(self, asked: Asked) -> Job:
        def find(within: str | None) -> Offer:
            if None not in (within, asked.reference) and within != asked.reference:
                raise QueryError(
                    "reference: expected the same one in the address and in the body, found "
                    f"{asked.reference!r} and {within!r}; name it once."
                )
            return self.references.find(asked.reference if within is None else within)

        body = decompress(asked.body, asked.max_bytes) if asked.compressed else asked.body
        return asked.understand(body, find, self.limits)

    def _compute(self, route: str, job: Job, reference: LocalReference, abandoned: threading.Event) -> Answer:
        started = time.perf_counter()
        try:
            mapped = reference.score(job.cells, job.options, abandoned)
        except DeviceError:
            self._leave()
            raise
        self.metrics.mapped(route, job, mapped, time.perf_counter() - started)
        return job.answer(mapped)

    def _leave(self) -> None:
        """Take nothing in any more, and end: the device is lost to this process, not to the next one."""
        if not self.queue.draining:
            self.queue.drain()
            _log.exception("The device failed; this process ends, and its supervisor starts another")
            self._end()
