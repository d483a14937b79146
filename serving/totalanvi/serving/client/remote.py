"""A reference at an endpoint, however its questions are carried there.

Features are agreed once, cells are aligned here, and only counts of genes that the reference knows travel.

Nothing heavy is imported until it is needed, and never torch, ONNX Runtime or BentoML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from totalanvi.serving.errors import EndpointError, StaleFeaturesError, TooLargeError, UnknownReferenceError
from totalanvi.serving.mapping.maps_queries import MapsQueries

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import numpy as np
    import numpy.typing as npt

    from totalanvi.serving.cells import AlignedCells
    from totalanvi.serving.client.answer_cache import AnswerCache
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
    answers
        Where answers are kept for a later run; None keeps none.
    reference
        Which of the endpoint's references is meant; None for its default one.

    Raises
    ------
    EndpointError
        When there would be no chunk in flight, or no cell in it.
    """

    def __init__(
        self,
        carrier: Carrier,
        concurrency: int,
        chunk_cells: int,
        answers: AnswerCache | None = None,
        reference: str | None = None,
    ) -> None:
        if concurrency < 1 or chunk_cells < 1:
            raise EndpointError(
                f"Expected at least one chunk in flight and one cell in each, found concurrency={concurrency} and "
                f"chunk_cells={chunk_cells}."
            )
        self._carrier = carrier
        self._concurrency = concurrency
        self._chunk_cells = chunk_cells
        self._answers = answers
        self._reference = reference
        self._info: EndpointInfo | None = None
        self._features: ReferenceFeatures | None = None

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return self._carrier.url

    @property
    def reference(self) -> str | None:
        """Which of the endpoint's references was chosen, None for its default one."""
        return self._reference

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

    def landmarks(self) -> npt.NDArray[np.float32]:
        """Places of the reference's own cells on its map, (landmarks, 2)."""
        from totalanvi.serving.client.handshake import ask_landmarks

        return ask_landmarks(self._carrier, self.info())

    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        """Map aligned cells, in as many requests as the endpoint's limits ask for.

        Raises
        ------
        StaleFeaturesError
            When the endpoint's reference has been replaced or taken away since the cells were aligned.
        EndpointError
            When the endpoint cannot be reached, or answers with anything but the whole result.
        """
        from totalanvi.serving.client.chosen import full_name
        from totalanvi.serving.mapped import MappedCells
        from totalanvi.serving.wire.chunks import ChunkRequest, encode_request

        info = self.info()
        limits = info.limits
        if len(cells) <= limits.max_cells and cells.rna.nnz <= limits.max_nonzeros:
            body = encode_request(ChunkRequest(info.features_digest, options, cells, full_name(info)))
            if len(body) <= limits.max_body_bytes:
                return self._send(info, body, len(cells), options)
        if len(cells) == 1:
            raise TooLargeError(
                f"Expected cells of at most {limits.max_body_bytes} bytes and {limits.max_nonzeros} counts, found a "
                "larger one; ask the endpoint's operator to raise TOTALANVI_MAX_BODY_BYTES and TOTALANVI_MAX_NONZEROS."
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
        """Map one chunk, or take what it was mapped to in an earlier run."""
        if self._answers is None:
            return self._understood(info, self._asked(info, body), n_cells, options)
        name = self._answers.name(info.digest, body)
        kept = self._answers.find(name)
        if kept is not None:
            try:
                return self._understood(info, kept, n_cells, options)
            except EndpointError:
                # Damaged, or of an older version: as good as none.
                self._answers.drop(name)
        answer = self._asked(info, body)
        mapped = self._understood(info, answer, n_cells, options)
        self._answers.keep(name, answer)
        return mapped

    def _asked(self, info: EndpointInfo, body: bytes) -> bytes:
        from totalanvi.serving.wire.arrow_stream import compress
        from totalanvi.serving.wire.chunks import MEDIA_TYPE

        headers = {"Content-Type": MEDIA_TYPE}
        if not self._carrier.is_loopback:
            # Within one machine, compressing takes longer than sending.
            headers["Content-Encoding"] = "zstd"
            body = compress(body)
        try:
            return self._carrier.post("/v1/map", body, headers)
        except UnknownReferenceError as error:
            raise StaleFeaturesError(
                f"Expected an answer of {info.name} {info.version}, found that the endpoint has it no longer "
                f"({str(error).removesuffix('.')}). Map the query again."
            ) from error

    def _understood(self, info: EndpointInfo, answer: bytes, n_cells: int, options: MapOptions) -> MappedCells:
        from totalanvi.serving.bundles.hierarchy import Hierarchy
        from totalanvi.serving.wire.chunks import decode_response

        response = decode_response(
            answer,
            n_cells=n_cells,
            n_labels=len(info.labels),
            n_names=len(Hierarchy(info.labels, info.parents).names),
            n_latent=info.n_latent,
            n_proteins=len(info.proteins) if options.impute and info.proteins else None,
        )
        if response.reference.digest != info.digest:
            raise StaleFeaturesError(
                f"Expected an answer of {info.name} {info.version}, found one of {response.reference.name} "
                f"{response.reference.version}: the endpoint's reference has been replaced. Map the query again."
            )
        return response.mapped

    @property
    def _where(self) -> str:
        return self.url

    def _known_info(self) -> EndpointInfo | None:
        return self._info

    def _for_query(self) -> MapsQueries:
        self._refresh()
        return self

    def _refresh(self) -> None:
        """Ask which reference is served now, and for its features when it is not the one that is known."""
        from totalanvi.serving.client.handshake import ask_features, ask_info

        info = ask_info(self._carrier, self._reference)
        if self._info is None or self._info.digest != info.digest:
            self._features = ask_features(self._carrier, info)
        self._info = info
