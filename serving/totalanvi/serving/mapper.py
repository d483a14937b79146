"""A reference in this process: a bundle, and an engine that computes it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from totalanvi.serving.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine import Engine
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.info import ReferenceInfo
from totalanvi.serving.mapped import Background, MapOptions, MappedCells
from totalanvi.serving.mapping import map_object
from totalanvi.serving.scorer import DEFAULT_BATCH_SIZE
from totalanvi.serving.sessions import Provider

if TYPE_CHECKING:
    import anndata
    import mudata

    from totalanvi.serving.readers import QueryData
    from totalanvi.serving.resolution.feature_map import FeatureMap

__all__ = ["LocalReference"]


class LocalReference:
    """A bundle that maps queries here.

    Parameters
    ----------
    path
        Folder of the bundle.
    provider, threads
        See `totalanvi.serving.engine.Engine`.

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
        """One chunk at a time: its graphs already use every core."""
        return 1

    def info(self) -> ReferenceInfo:
        """Say which reference this is."""
        return ReferenceInfo.of(self.bundle.manifest, self.bundle.digest, self.engine.provider)

    def score(self, cells: AlignedCells, options: MapOptions) -> MappedCells:
        """Map aligned cells; see `Engine.run`."""
        return self.engine.run(cells, options)

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
        batch_size: int = DEFAULT_BATCH_SIZE,
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
            ones, ``"none"`` maps from RNA alone.
        layer
            Layer that holds the raw RNA counts, or ``"X"`` or ``"raw"``; None finds the only one of these that does.
        impute, samples, background, impute_as, coverage, false_positive_rate, keep_unknown_labels,
        certainty
            See `totalanvi.serving.mapped.MapOptions`.
        batch_size
            Cells that are aligned and scored together; results do not depend on it.
        progress
            Whether to show a progress bar, on a terminal.
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
            and, with `impute`, proteins and their intervals; see `totalanvi.serving.annotate`.

        Raises
        ------
        QueryError
            When the query is not what it should be; the message says what to do.

        Warns
        -----
        UserWarning
            When the query can be mapped, but less well than it might.
        """
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
        return map_object(
            self,
            data,
            proteins,
            layer,
            options,
            batch_size,
            progress,
            gene_column=gene_column,
            feature_map=feature_map,
        )
