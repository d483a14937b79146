"""The bundle: a folder that holds a reference ready to be served.

The reader owns the contract: this module defines the manifest's schema, opens a bundle and verifies it; the export
stage writes what is read here.

::

    bundle/
      manifest.json           this module's `Manifest`
      encoder.onnx            counts → posterior of the latent          (see `ENCODER`)
      classifier.onnx         latent → label logits                     (see `CLASSIFIER`)
      proteins.onnx           posterior, noise, batch → proteins        (see `PROTEINS`)
      reference.safetensors   the reference map, calibration quantiles, average profiles (see `ReferenceArrays`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from totalanvi.serving.errors import BundleError

__all__ = [
    "CLASSIFIER",
    "ENCODER",
    "PROTEINS",
    "SCHEMA_VERSION",
    "Bundle",
    "Calibration",
    "FileRecord",
    "GraphSignature",
    "Manifest",
    "Parity",
    "ReferenceArrays",
]

SCHEMA_VERSION = 1
"""The newest manifest schema that this code reads and writes."""

MANIFEST_FILE = "manifest.json"
REFERENCE_FILE = "reference.safetensors"


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
``batch`` (1, batches) one-hot, the reference batch to decode as. Each output (cells, proteins) is the mean over samples:
``denoised`` without background, ``expected`` with it, ``foreground`` the foreground probability."""


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Schema):
    """Size and digest of one file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Genes(_Schema):
    """The model's genes, in model order."""

    names: list[str] = Field(min_length=1)
    ensembl_ids: list[str | None] | None = None


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


class Thresholds(_Schema):
    """When alignment warns and when it refuses (shares of the reference's average counts that matched genes carry)."""

    gene_coverage_warn: float = Field(default=0.8, ge=0, le=1)
    gene_coverage_refuse: float = Field(default=0.2, ge=0, le=1)


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
    proteins: list[str]
    labels: list[str] = Field(min_length=2)
    batches: list[str] = Field(min_length=1)
    protein_batches: list[list[bool]]
    """(batches, proteins): which batch measured which protein; a protein is imputed as an average of those."""
    n_latent: int = Field(ge=1)
    input_transform: Literal["log1p_mean_scaled"]
    calibration: dict[Literal["protein", "rna"], Calibration]
    thresholds: Thresholds = Thresholds()
    noise_seed: int = 0
    provenance: Provenance
    parity: list[Parity]
    files: dict[str, FileRecord]
