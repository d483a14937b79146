"""The schema of a bundle: what its manifest says, and what its graphs take and give.

It stands apart from the opening of bundles so that it can be imported where neither ONNX Runtime nor safetensors is
installed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "CLASSIFIER",
    "ENCODER",
    "MANIFEST_FILE",
    "PROTEINS",
    "REFERENCE_FILE",
    "SCHEMA_VERSION",
    "AblationPoint",
    "Calibration",
    "FileRecord",
    "GeneAblation",
    "Genes",
    "GraphSignature",
    "Manifest",
    "Mode",
    "Parity",
    "Provenance",
    "Thresholds",
]

Mode = Literal["protein", "rna"]
"""Of a cell: "protein" when any protein was measured for it, else "rna"."""

SCHEMA_VERSION = 2
"""The newest manifest schema that this code reads and writes."""

MANIFEST_FILE = "manifest.json"
"""The one file that the manifest does not list."""

REFERENCE_FILE = "reference.safetensors"
"""The file that holds `totalanvi.serving.reference_arrays.ReferenceArrays`."""


@dataclass(frozen=True)
class GraphSignature:
    """One ONNX graph of the bundle: its file and the names of its inputs and outputs, in order."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


ENCODER = GraphSignature(
    file="encoder.onnx",
    inputs=("rna", "library", "protein", "measured", "batch"),
    outputs=("z_mean", "z_scale", "latent"),
)
"""All float32. ``rna`` counts (cells, genes); ``library`` (cells, 1), the cell's total count over the model's genes,
divided by the gene coverage of the query; ``protein`` counts (cells, proteins), 0 where not measured; ``measured``
(cells, proteins), 1 or 0; ``batch`` (cells, batches), one-hot, all zero for a batch the reference has not seen.
``z_mean`` and ``z_scale`` (cells, latent) are the Gaussian posterior; ``latent`` (cells, latent) is its mean after the
latent transformation."""

CLASSIFIER = GraphSignature(file="classifier.onnx", inputs=("latent",), outputs=("logits",))
"""``latent`` (cells, latent) → ``logits`` (cells, labels), before any temperature."""

PROTEINS = GraphSignature(
    file="proteins.onnx",
    inputs=("z_mean", "z_scale", "noise", "batch"),
    outputs=("denoised", "expected", "foreground"),
)
"""``noise`` (samples, latent) standard normal draws shared by all cells (one row of zeros: the plug-in estimate);
``batch`` (1, batches) one-hot, the reference batch to decode as. Each output (cells, proteins) is a mean over samples:
``denoised`` without background, ``expected`` with it, ``foreground`` the foreground probability."""


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileRecord(_Schema):
    """Size and digest of one file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Genes(_Schema):
    """The model's genes, in model order."""

    names: list[str] = Field(min_length=1)
    ensembl_ids: list[str | None] | None = None
    symbols: list[str | None] | None = None
    """What the genes are called in a reference that names them by something else, such as Ensembl ids."""

    @model_validator(mode="after")
    def _consistent(self) -> Genes:
        _unique("genes.names", self.names)
        for field, names in (("genes.ensembl_ids", self.ensembl_ids), ("genes.symbols", self.symbols)):
            if names is not None:
                _length(field, len(names), "genes", len(self.names))
                _unique(field, [name for name in names if name is not None])
        return self


class Calibration(_Schema):
    """How the certainty of one query mode was calibrated, on held-out reference cells."""

    temperature: float = Field(gt=0)
    n_cells: int = Field(ge=0)
    accuracy: float | None
    log_loss: float | None
    expected_calibration_error: float | None


class Parity(_Schema):
    """The largest error of one graph output against torch, through the production engine."""

    graph: str
    output: str
    relative_error: float
    tolerance: float
    n_cells: int


class AblationPoint(_Schema):
    """How well reference cells are labelled by a part of the genes."""

    gene_weight: float = Field(ge=0, le=1)
    """What the remaining genes carry."""
    accuracy: float = Field(ge=0, le=1)


class GeneAblation(_Schema):
    """What the reference's own cells lose with genes, from RNA alone: where the thresholds come from."""

    n_cells: int = Field(ge=1)
    held_out: bool
    """Whether training did not see these cells."""
    chance: float = Field(ge=0, le=1)
    """Accuracy of the commonest label."""
    curve: list[AblationPoint] = Field(min_length=1)
    """By rising weight, smoothed so that it never falls; the last point is all genes."""


class Thresholds(_Schema):
    """When alignment warns and when it refuses: shares of the model's learned weight that matched genes carry."""

    gene_weight_warn: float = Field(ge=0, le=1)
    gene_weight_refuse: float = Field(ge=0, le=1)
    ablation: GeneAblation | None = None
    """None for thresholds that were set by hand."""


class Provenance(_Schema):
    """Where the reference comes from."""

    data_digest: str
    n_cells: int
    n_labelled: int
    versions: dict[str, str]
    model: dict[str, Any]
    training: dict[str, Any]


class Manifest(_Schema):
    """Everything about a bundle that is not a large array."""

    schema_version: int
    name: str
    version: str
    created: str
    genes: Genes
    proteins: list[str] = Field(min_length=1)
    labels: list[str] = Field(min_length=2)
    batches: list[str] = Field(min_length=1)
    protein_batches: list[list[bool]]
    """(batches, proteins): which batch measured which protein; a protein is imputed as an average of those."""
    n_latent: int = Field(ge=1)
    input_transform: Literal["log1p_mean_scaled"]
    calibration: dict[Mode, Calibration]
    thresholds: Thresholds
    noise_seed: int = 0
    provenance: Provenance
    parity: list[Parity]
    files: dict[str, FileRecord]

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            if not _FILE_NAME.fullmatch(name) or name == MANIFEST_FILE:
                raise ValueError(f"expected plain file names, found {name!r}")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for name, values in (("proteins", self.proteins), ("labels", self.labels), ("batches", self.batches)):
            _unique(name, values)
        _length("protein_batches", len(self.protein_batches), "batches", len(self.batches))
        for row in self.protein_batches:
            _length("a row of protein_batches", len(row), "proteins", len(self.proteins))
        for protein, measured in zip(self.proteins, zip(*self.protein_batches, strict=True), strict=True):
            if not any(measured):
                raise ValueError(f"protein_batches: expected a batch that measured {protein!r}, found none")
        for mode in get_args(Mode):
            if mode not in self.calibration:
                raise ValueError(f"calibration: expected an entry for mode {mode!r}, found {sorted(self.calibration)}")
        return self

    @property
    def features_digest(self) -> str:
        """SHA-256 of genes and proteins in model order: aligned cells fit a reference exactly when theirs is equal."""
        features = [self.genes.names, self.genes.ensembl_ids, self.genes.symbols, self.proteins]
        return hashlib.sha256(json.dumps(features, separators=(",", ":")).encode()).hexdigest()


_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _unique(field: str, names: list[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{field}: expected unique names, found {repeated[:5]} more than once")


def _length(field: str, found: int, of: str, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{field}: expected one entry for each of the {expected} {of}, found {found}")
