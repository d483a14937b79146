"""What an endpoint does, HTTP aside: load a reference in the background, then map chunks and JSON requests with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pydantic import ValidationError

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.endpoint.access.account import charge
from totalanvi.serving.endpoint.metrics import Metrics
from totalanvi.serving.endpoint.predict import predict
from totalanvi.serving.endpoint.work_queue import WorkQueue
from totalanvi.serving.errors import NotReadyError, QueryError, ServingError, TooLargeError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.version import software_version
from totalanvi.serving.wire.arrow_stream import decompress
from totalanvi.serving.wire.chunks import PROTOCOL, ChunkResponse, ReferenceStamp, decode_request, encode_response
from totalanvi.serving.wire.limits import Limits
from totalanvi.serving.wire.schemas import EndpointInfo, FeaturesAnswer, LabelsAnswer, PredictRequest

__all__ = ["Endpoint"]

_log = logging.getLogger(__name__)


class Endpoint:
    """One reference, ready to answer requests.

    Parameters
    ----------
    limits
        What requests may cost.
    open_reference
        Opens the reference; called once, in a thread, by `start`.

    Attributes
    ----------
    queue : WorkQueue
        Where `map_chunk` and `predict` are to be run: they compute.
    metrics : Metrics
        What has been answered so far.
    """

    def __init__(self, limits: Limits, open_reference: Callable[[], LocalReference]) -> None:
        self.limits = limits
        self.queue = WorkQueue(limits.max_concurrency, limits.max_queue)
        self.metrics = Metrics(queued=lambda: self.queue.taken)
        self._open_reference = open_reference
        self._reference: LocalReference | None = None
        self._failure: ServingError | None = None
        self._info = b""
        self._features = b""

    @property
    def ready(self) -> bool:
        """Whether the reference is loaded and warm."""
        return self._reference is not None

    def start(self) -> None:
        """Load and warm the reference in the background, so that liveness can be asked for meanwhile."""
        threading.Thread(target=self._load, name="totalanvi-load", daemon=True).start()

    def close(self) -> None:
        """Let go of what waits in the queue."""
        self.queue.close()

    def info(self) -> bytes:
        """Return the reference and the limits as JSON.

        Raises
        ------
        ServingError
            Like all that follow, while there is no reference: a `NotReadyError`, or what made loading fail.
        """
        self._require_reference()
        return self._info

    def features(self) -> bytes:
        """Return what queries are aligned to, and its digest, as JSON."""
        self._require_reference()
        return self._features

    def labels(self) -> bytes:
        """Return the names of the labels as JSON."""
        features = self._require_reference().features
        return LabelsAnswer(labels=list(features.labels)).model_dump_json().encode()

    def landmarks(self) -> bytes:
        """Return the places of the reference's own cells on its map, x and y of each, as little-endian float32."""
        return self._require_reference().landmarks().astype("<f4").tobytes()

    def map_chunk(self, body: bytes, compressed: bool) -> bytes:
        """Map one chunk in the binary format.

        Raises
        ------
        QueryError
            When the chunk is not what `totalanvi.serving.wire.chunks` describes.
        """
        reference = self._require_reference()
        if compressed:
            body = decompress(body, self.limits.max_body_bytes)
        info = reference.info()
        request = decode_request(
            body,
            features=info.features_digest,
            n_genes=info.n_genes,
            n_proteins=len(info.proteins),
            max_cells=self.limits.max_cells,
        )
        charge(len(request.cells))
        mapped = _Timed(reference, self.metrics, "map").score(request.cells, request.options)
        return encode_response(ChunkResponse(ReferenceStamp(info.name, info.version, info.digest), mapped))

    def predict(self, body: bytes, compressed: bool) -> bytes:
        """Map the cells of one JSON request.

        Raises
        ------
        QueryError
            When the body is not a `PredictRequest`, or its cells cannot be mapped.
        """
        reference = self._require_reference()
        if compressed:
            body = decompress(body, self.limits.max_json_bytes)
        try:
            request = PredictRequest.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "the body"
            raise QueryError(
                'Expected {"cells": [{"genes": {NAME: COUNT, …}, "proteins": {NAME: COUNT, …}}, …]}, with raw counts '
                f"(whole numbers, 0 or more); found at {where}: {first['msg']}."
            ) from error
        if len(request.cells) > self.limits.max_cells:
            raise TooLargeError(
                f"Expected at most {self.limits.max_cells} cells, found {len(request.cells)}; send fewer at a time."
            )
        charge(len(request.cells))
        return predict(_Timed(reference, self.metrics, "predict"), request).model_dump_json().encode()

    def _load(self) -> None:
        try:
            reference = self._open_reference()
            reference.engine.warm()
            info, features = reference.info(), reference.features
            answer = EndpointInfo(**info.model_dump(), protocol=PROTOCOL, server=software_version(), limits=self.limits)
            self._info = answer.model_dump_json().encode()
            self._features = FeaturesAnswer(digest=info.features_digest, features=features).model_dump_json().encode()
        except ServingError as error:
            self._failure = error
            _log.error("The reference cannot be served: %s", error)
        except Exception as error:
            self._failure = ServingError("The reference cannot be served; its log on the server says why.")
            self._failure.http_status = 500
            _log.exception("The reference cannot be served: %s", type(error).__name__)
        else:
            self._reference = reference
            self.metrics.serving(info.name, info.version, info.digest)
            _log.info("Serving %s %s (%s) on %s.", info.name, info.version, info.digest[:12], info.provider)

    def _require_reference(self) -> LocalReference:
        if self._reference is not None:
            return self._reference
        if self._failure is not None:
            raise self._failure
        raise NotReadyError("The endpoint is still loading its reference; ask again in some seconds.")


class _Timed:
    """A reference whose scoring is counted."""

    def __init__(self, reference: LocalReference, metrics: Metrics, route: str) -> None:
        self._reference = reference
        self._metrics = metrics
        self._route = route
        self.in_flight = reference.in_flight

    @property
    def features(self) -> ReferenceFeatures:
        return self._reference.features

    def info(self) -> ReferenceInfo:
        return self._reference.info()

    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        started = time.perf_counter()
        mapped = self._reference.score(cells, options)
        self._metrics.mapped(self._route, len(cells), time.perf_counter() - started)
        return mapped
