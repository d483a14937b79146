"""A saved model of scvi-tools as our checkpoint, and as our model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from anndata import AnnData
from mudata import MuData

from totalanvi.training.anvae import TotalANVAE
from totalanvi.training.checkpoint import Checkpoint, package_versions, sample_reference, write_checkpoint
from totalanvi.training.errors import CheckpointError
from totalanvi.training.model import TOTALVI
from totalanvi.training.registry import Registry
from totalanvi.training.scvi_import.names import registry_of
from totalanvi.training.scvi_import.options import config_of
from totalanvi.training.scvi_import.reference import Reference, data_beside, read_cells_of
from totalanvi.training.scvi_import.saves import ScviSave, read_save
from totalanvi.training.scvi_import.weights import translate_weights
from totalanvi.training.semisupervised import TOTALANVI
from totalanvi.training.trainable import data_digest
from totalanvi.training.vae import TotalVAE

__all__ = ["import_scvi", "scvi_checkpoint"]
