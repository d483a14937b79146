"""What users call, on a bundle and on an endpoint alike: `map` with its options, and what a reference says it is.

Nothing heavy is imported until it is needed: a client starts with this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anndata
    import mudata
    import numpy as np
    import numpy.typing as npt

    from totalanvi.serving.alignment.feature_map import FeatureMap
    from totalanvi.serving.bundles.info import ReferenceInfo
    from totalanvi.serving.cells import AlignedCells
    from totalanvi.serving.features import ReferenceFeatures
    from totalanvi.serving.mapped import Background, MapOptions, MappedCells
    from totalanvi.serving.queries.readers import QueryData

__all__ = ["MapsQueries"]

_MOST_NAMES = 5
"""Labels, proteins and batches that a reference shows of itself."""


class MapsQueries(ABC):
    """A reference that maps queries: a `totalanvi.serving.features.Reference`, and what users ask of one."""

    @property
    @abstractmethod
    def features(self) -> ReferenceFeatures:
        """The features that queries are aligned to."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many chunks are scored at a time."""

    @property
    @abstractmethod
    def chunk_cells(self) -> int:
        """Cells that are aligned and scored together unless asked otherwise."""

    @abstractmethod
    def info(self) -> ReferenceInfo:
        """Say which reference this is."""

    @abstractmethod
    def landmarks(self) -> npt.NDArray[np.float32]:
        """Places of the reference's own cells on its map, (landmarks, 2)."""

    @abstractmethod
    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        """Map aligned cells."""

    def map(
        self,
        data: QueryData,
        proteins: str | None = None,
        layer: str | None = None,
        impute: bool = True,
        samples: int = 25,
        background: Background = "exclude",
        impute_as: str | None = None,
        coverage: float = 0.9,
        false_positive_rate: float = 0.01,
        keep_unknown_labels: bool = False,
        certainty: float = 0.9,
        batch_size: int | None = None,
        progress: bool = False,
        *,
        gene_column: str | None = None,
        feature_map: FeatureMap | None = None,
    ) -> anndata.AnnData | mudata.MuData:
        """Map a query onto this reference.

        Parameters
        ----------
        data
            AnnData or MuData with raw counts, or the path of an ``.h5ad``, ``.h5mu`` or 10x ``.h5`` file, of a Zarr
            folder, or of the folder of a 10x matrix.
        proteins
            Key of ``obsm`` (AnnData) or name of a modality (MuData) that holds protein counts; None finds the usual
            ones, or those among the genes (``var["feature_types"]``), ``"none"`` maps from RNA alone.
        layer
            Layer that holds the raw RNA counts, or ``"X"`` or ``"raw"``; None finds the only one of these that does.
        impute, samples, background, impute_as, coverage, false_positive_rate, keep_unknown_labels, certainty
            See `totalanvi.serving.mapped.MapOptions`.
        batch_size
            Cells that are aligned and scored together, `chunk_cells` unless given; results do not depend on it.
        progress
            Whether to show a progress bar, or elsewhere than on a terminal a line now and then.
        gene_column
            Column of ``var`` that names genes by symbol or Ensembl id, or ``"var_names"``; None takes what matches
            best.
        feature_map
            What genes and proteins of the query are called in the reference: names by name, or the path of a table of
            two columns (CSV or TSV). It goes before all else; an empty name leaves a feature out.

        Returns
        -------
        AnnData or MuData
            A copy of the query with labels, confidence, novelty, label sets, latent, map coordinates, probabilities
            and, with `impute`, proteins and their intervals; see `totalanvi.serving.outputs.annotate`.

        Raises
        ------
        QueryError
            When the query is not what it should be; the message says what to do. An endpoint's is the same.
        EndpointError
            When a chunk could not be mapped at an endpoint although it was sent again; nothing is returned then.

        Warns
        -----
        UserWarning
            When the query can be mapped, but less well than it might.
        """
        from totalanvi.serving.mapped import MapOptions
        from totalanvi.serving.mapping.mapping import map_object

        options = MapOptions(
            impute=impute,
            samples=samples,
            background=background,
            impute_as=impute_as,
            coverage=coverage,
            false_positive_rate=false_positive_rate,
            keep_unknown_labels=keep_unknown_labels,
            certainty=certainty,
        )
        reference = self._for_query()
        size = self.chunk_cells if batch_size is None else batch_size
        return map_object(
            reference, data, proteins, layer, options, size, progress, gene_column=gene_column, feature_map=feature_map
        )

    def __repr__(self) -> str:
        head, info = f"{type(self).__name__}({self._where!r})", self._known_info()
        if info is None:
            return f"{head}, not asked yet"
        return "\n    ".join(
            (
                f"{head}: {info.name} {info.version}, trained on {info.provenance.n_cells:,} cells",
                _listed("labels", info.labels),
                f"genes: {info.n_genes:,}",
                _listed("proteins", info.proteins),
                _listed("batches", info.batches),
            )
        )

    @property
    @abstractmethod
    def _where(self) -> str:
        """Folder or address."""

    @abstractmethod
    def _known_info(self) -> ReferenceInfo | None:
        """Say what `info` would, without asking anyone; None when it is not known."""

    @abstractmethod
    def _for_query(self) -> MapsQueries:
        """Return what maps the next query: this, once it is known whether it was replaced, where that may happen."""


def _listed(what: str, names: list[str]) -> str:
    from totalanvi.serving.listing import quoted

    return f"{what}: {len(names):,}" + (f" ({quoted(names, _MOST_NAMES)})" if names else "")
