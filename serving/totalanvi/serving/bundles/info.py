"""What a reference says about itself: the answer of ``totalanvi info``, of ``/v1/info`` and of ``reference.info()``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from totalanvi.serving.bundles.confidence_figures import ModeConfidence, ProteinReliability
from totalanvi.serving.bundles.manifest import Calibration, Manifest, Parity, Provenance
from totalanvi.serving.bundles.modes import Mode
from totalanvi.serving.bundles.precision import PrecisionCost
from totalanvi.serving.bundles.thresholds import Thresholds

__all__ = ["ReferenceInfo"]


class ReferenceInfo(BaseModel):
    """A reference in short: all of its manifest but the long lists of genes and files.

    Examples
    --------
    >>> reference.info().labels  # doctest: +SKIP
    ['B cell', 'CD4 T', 'CD8 T', 'NK']
    >>> ReferenceInfo.model_validate_json(response.content)  # doctest: +SKIP
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    """Unknown fields are ignored, so that an older client understands a newer endpoint."""

    name: str
    version: str
    created: str
    digest: str
    """SHA-256 of the manifest, which names the whole bundle."""
    features_digest: str
    """SHA-256 of genes and proteins in model order."""
    schema_version: int
    n_genes: int
    labels: list[str]
    parents: dict[str, str]
    proteins: list[str]
    batches: list[str]
    n_latent: int
    protein_batches: list[list[bool]]
    """(batches, proteins): which batch measured which protein."""
    calibration: dict[Mode, Calibration]
    confidence: dict[Mode, ModeConfidence]
    protein_reliability: list[ProteinReliability]
    """(proteins,): how well RNA alone predicts each."""
    thresholds: Thresholds
    provenance: Provenance
    parity: list[Parity]
    precision: PrecisionCost | None = None
    """What it computes with if it is not float32, and what that costs."""
    provider: str | None = None
    """The ONNX Runtime provider that computes, None when nothing has been loaded to compute with."""

    @classmethod
    def of(cls, manifest: Manifest, digest: str, provider: str | None = None) -> ReferenceInfo:
        """Shorten a manifest.

        Parameters
        ----------
        manifest
            Of the bundle.
        digest
            `Bundle.digest`.
        provider
            `Engine.provider`, where there is an engine.
        """
        return cls(
            name=manifest.name,
            version=manifest.version,
            created=manifest.created,
            digest=digest,
            features_digest=manifest.features_digest,
            schema_version=manifest.schema_version,
            n_genes=len(manifest.genes.names),
            labels=manifest.labels,
            parents=manifest.parents,
            proteins=manifest.proteins,
            batches=manifest.batches,
            n_latent=manifest.n_latent,
            protein_batches=manifest.protein_batches,
            calibration=manifest.calibration,
            confidence=manifest.confidence,
            protein_reliability=manifest.protein_reliability,
            thresholds=manifest.thresholds,
            provenance=manifest.provenance,
            parity=manifest.parity,
            precision=manifest.precision,
            provider=provider,
        )
