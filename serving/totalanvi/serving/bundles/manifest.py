"""The schema of a bundle: what its manifest says, and which files it has beside its graphs.

It stands apart from the opening of bundles so that it can be imported where neither ONNX Runtime nor safetensors is
installed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from totalanvi.serving.bundles.confidence_figures import ModeConfidence, ProteinReliability
from totalanvi.serving.bundles.hierarchy import hierarchy_problem
from totalanvi.serving.bundles.modes import MODES, Mode
from totalanvi.serving.bundles.precision import PrecisionCost
from totalanvi.serving.bundles.schema import Schema
from totalanvi.serving.bundles.thresholds import Thresholds

__all__ = [
    "CALIBRATION_FILE",
    "CARD_FILE",
    "ENCODER_FIRST_FILE",
    "MANIFEST_FILE",
    "READOUT_FILE",
    "READOUT_FIRST_FILE",
    "REFERENCE_FILE",
    "REPORT_FILE",
    "SCHEMA_VERSION",
    "Calibration",
    "FileRecord",
    "Genes",
    "Manifest",
    "Parity",
    "Provenance",
    "UNKNOWN",
]

SCHEMA_VERSION = 2
"""The newest manifest schema that this code reads and writes."""

MANIFEST_FILE = "manifest.json"
"""The one file that the manifest does not list."""

REFERENCE_FILE = "reference.safetensors"
"""The file that holds `totalanvi.serving.bundles.reference_arrays.ReferenceArrays`."""

CALIBRATION_FILE = "calibration.safetensors"
"""The file that holds `totalanvi.serving.bundles.calibration_arrays.CalibrationArrays`."""

READOUT_FILE = "readout.safetensors"
"""The file that holds `totalanvi.serving.bundles.readout_arrays.ReadoutArrays`, in a bundle with a readout."""

ENCODER_FIRST_FILE, READOUT_FIRST_FILE = "encoder_first.safetensors", "readout_first.safetensors"
"""The files that hold `totalanvi.serving.bundles.first_layer.FirstLayers`, the latter in a bundle with a readout."""

CARD_FILE, REPORT_FILE = "README.md", "report.html"
"""What is said of the reference to people: a model card, as hubs show it, and a page. A bundle from before these has
neither, and is served all the same; where the manifest lists them, they are verified like all files."""

UNKNOWN = "unknown"
"""Label of a cell that is more novel than cells like the reference's are; no label of a reference has this name."""


class FileRecord(Schema):
    """Size and digest of one file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Genes(Schema):
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


class Calibration(Schema):
    """How the certainty of one query mode was calibrated, on held-out reference cells."""

    temperature: float = Field(gt=0)
    n_cells: int = Field(ge=0)
    accuracy: float | None
    log_loss: float | None
    expected_calibration_error: float | None


class Parity(Schema):
    """The largest error of one graph output against torch, through the production engine."""

    graph: str
    output: str
    relative_error: float
    tolerance: float
    n_cells: int


class Provenance(Schema):
    """Where the reference comes from."""

    data_digest: str
    n_cells: int
    n_labelled: int
    versions: dict[str, str]
    model: dict[str, Any]
    training: dict[str, Any]


class Manifest(Schema):
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
    confidence: dict[Mode, ModeConfidence]
    protein_reliability: list[ProteinReliability]
    parents: dict[str, str] = Field(default_factory=dict)
    """The parent of each label or ancestor that has one (`totalanvi.serving.bundles.hierarchy`); empty without any."""
    thresholds: Thresholds
    noise_seed: int = 0
    provenance: Provenance
    parity: list[Parity]
    """Of the float32 graphs, which a bundle of another precision was made from."""
    precision: PrecisionCost | None = None
    """What the graphs compute with if it is not float32, and what that costs; None, and not written, in float32."""
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
        _length("protein_reliability", len(self.protein_reliability), "proteins", len(self.proteins))
        for field, names in (("labels", self.labels), ("parents", self.parents.values())):
            if UNKNOWN in names:
                raise ValueError(f"{field}: expected none called {UNKNOWN!r}, which is what novel cells are called")
        if problem := hierarchy_problem(self.labels, self.parents):
            raise ValueError(f"parents: {problem}")
        for name, modes in (("calibration", self.calibration), ("confidence", self.confidence)):
            for mode in MODES:
                if mode not in modes:
                    raise ValueError(f"{name}: expected an entry for mode {mode!r}, found {sorted(modes)}")
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
