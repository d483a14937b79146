"""A reference at an endpoint, however its questions are carried there.

Features are agreed once, cells are aligned here, and only counts of genes that the reference knows travel.

Nothing heavy is imported until it is needed, and never torch, ONNX Runtime or BentoML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from totalanvi.serving.errors import EndpointError, StaleFeaturesError, TooLargeError
from totalanvi.serving.mapping.maps_queries import MapsQueries

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from totalanvi.serving.cells import AlignedCells
    from totalanvi.serving.client.carrier import Carrier
    from totalanvi.serving.features import ReferenceFeatures
    from totalanvi.serving.mapped import MapOptions, MappedCells
    from totalanvi.serving.wire.schemas import EndpointInfo

__all__ = ["RemoteReference"]


class RemoteReference(MapsQueries):
    """A reference at an endpoint.

    Parameters
    ----------
    carrier
        Reaches the endpoint.
    concurrency
        Chunks in flight.
    chunk_cells
        Cells in a chunk; results do not depend on it.

    Raises
    ------
    EndpointError
        When there would be no chunk in flight, or no cell in it.
    """

    def __init__(self, carrier: Carrier, concurrency: int, chunk_cells: int) -> None:
        if concurrency < 1 or chunk_cells < 1:
            raise EndpointError(
                f"Expected at least one chunk in flight and one cell in each, found concurrency={concurrency} and "
                f"chunk_cells={chunk_cells}."
            )
        self._carrier = carrier
        self._concurrency = concurrency
        self._chunk_cells = chunk_cells
        self._info: EndpointInfo | None = None
        self._features: ReferenceFeatures | None = None

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return self._carrier.url

    @property
    def in_flight(self) -> int:
        """How many chunks are sent at a time."""
        return self._concurrency

    @property
    def chunk_cells(self) -> int:
        """Cells in a chunk unless `map` is told otherwise."""
        return self._chunk_cells

    @property
    def features(self) -> ReferenceFeatures:
        """The features that queries are aligned to."""
        if self._features is None:
            self._refresh()
        assert self._features is not None
        return self._features

    def info(self) -> EndpointInfo:
        """Say which reference is served, and what the endpoint accepts."""
        if self._info is None:
            self._refresh()
        assert self._info is not None
        return self._info

    def landmarks(self) -> None:
        """Return nothing: an endpoint keeps the reference's own cells to itself."""

    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        """Map aligned cells, in as many requests as the endpoint's limits ask for.

        Raises
        ------
        StaleFeaturesError
            When the endpoint's reference has been replaced since the cells were aligned.
        EndpointError
            When the endpoint cannot be reached, or answers with anything but the whole result.
        """
        from totalanvi.serving.mapped import MappedCells
        from totalanvi.serving.wire.chunks import ChunkRequest, encode_request

        info = self.info()
        if len(cells) <= info.limits.max_cells:
            body = encode_request(ChunkRequest(info.features_digest, options, cells))
            if len(body) <= info.limits.max_body_bytes:
                return self._send(info, body, len(cells), options)
        if len(cells) == 1:
            raise TooLargeError(
                f"Expected cells of at most {info.limits.max_body_bytes} bytes, found a larger one; "
                "ask the endpoint's operator to raise TOTALANVI_MAX_BODY_BYTES."
            )
        middle = len(cells) // 2
        halves = (cells.rows(slice(0, middle)), cells.rows(slice(middle, len(cells))))
        return MappedCells.concatenate([self.score(half, options) for half in halves])

    def close(self) -> None:
        """Close the connections."""
        self._carrier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, info: EndpointInfo, body: bytes, n_cells: int, options: MapOptions) -> MappedCells:
        from totalanvi.serving.bundles.hierarchy import Hierarchy
        from totalanvi.serving.wire.arrow_stream import compress
        from totalanvi.serving.wire.chunks import MEDIA_TYPE, decode_response

        headers = {"Content-Type": MEDIA_TYPE}
        if not self._carrier.is_loopback:
            # Within one machine, compressing takes longer than sending.
            headers["Content-Encoding"] = "zstd"
            body = compress(body)
        answer = decode_response(
            self._carrier.post("/v1/map", body, headers),
            n_cells=n_cells,
            n_labels=len(info.labels),
            n_names=len(Hierarchy(info.labels, info.parents).names),
            n_latent=info.n_latent,
            n_proteins=len(info.proteins) if options.impute and info.proteins else None,
        )
        if answer.reference.digest != info.digest:
            raise StaleFeaturesError(
                f"Expected an answer of {info.name} {info.version}, found one of {answer.reference.name} "
                f"{answer.reference.version}: the endpoint's reference has been replaced. Map the query again."
            )
        return answer.mapped

    @property
    def _where(self) -> str:
        return self.url

    def _known_info(self) -> EndpointInfo | None:
        return self._info

    def _be_current(self) -> None:
        self._refresh()

    def _refresh(self) -> None:
        """Ask which reference is served now, and for its features when it is not the one that is known."""
        from totalanvi.serving.client.handshake import ask_features, ask_info

        info = ask_info(self._carrier)
        if self._info is None or self._info.digest != info.digest:
            self._features = ask_features(self._carrier, info)
        self._info = info
