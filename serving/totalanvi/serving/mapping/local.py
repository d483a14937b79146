"""A reference in this process: a bundle, and an engine that computes it."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.sessions import Provider
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.maps_queries import MapsQueries

__all__ = ["LocalReference"]


class LocalReference(MapsQueries):
    """A bundle that maps queries here.

    Parameters
    ----------
    path
        Folder of the bundle.
    provider, threads
        See `totalanvi.serving.engine.engine.Engine`.

    Raises
    ------
    BundleError
        When the bundle is missing, altered, incomplete or of a newer schema.
    ServingError
        When CUDA was asked for and does not serve.

    Examples
    --------
    >>> reference = LocalReference("bundle/")  # doctest: +SKIP
    >>> annotated = reference.map(adata, proteins="protein_expression", samples=25)  # doctest: +SKIP
    >>> annotated.obs["totalanvi_label"].value_counts()  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, provider: Provider = "auto", threads: int | None = None) -> None:
        self.bundle = Bundle.open(path)
        self.engine = Engine(self.bundle, provider, threads)

    @cached_property
    def features(self) -> ReferenceFeatures:
        """The features that queries are aligned to."""
        arrays = self.bundle.reference
        return ReferenceFeatures.from_manifest(
            self.bundle.manifest, arrays.gene_share.tolist(), arrays.gene_weight.tolist()
        )

    @property
    def in_flight(self) -> int:
        """Two chunks at a time: cores that have nothing left to do in one go on with the next.

        On a device four: a chunk has few blocks there, and cores that finish one would wait while it computes the next.
        """
        return 2 if self.engine.provider == "cpu" else 4

    @property
    def chunk_cells(self) -> int:
        """Cells that are aligned and scored together unless `map` is told otherwise."""
        # With pandas, which an endpoint starts without.
        from totalanvi.serving.mapping.scorer import DEFAULT_BATCH_SIZE

        return DEFAULT_BATCH_SIZE

    def info(self) -> ReferenceInfo:
        """Say which reference this is."""
        return self._info

    @cached_property
    def _info(self) -> ReferenceInfo:
        return ReferenceInfo.of(self.bundle.manifest, self.bundle.digest, self.engine.provider)

    def landmarks(self) -> npt.NDArray[np.float32]:
        """Places of the reference's own cells on its map, (landmarks, 2)."""
        return self.bundle.reference.coordinates

    def score(self, cells: AlignedCells, options: MapOptions, abandoned: threading.Event | None = None) -> MappedCells:
        """Map aligned cells; see `Engine.run`."""
        return self.engine.run(cells, options, abandoned)

    @property
    def _where(self) -> str:
        return str(self.bundle.path)

    def _known_info(self) -> ReferenceInfo:
        return self.info()

    def _for_query(self) -> LocalReference:
        """Return this: an open bundle stays what it is."""
        return self
