"""What every model holds: its data in model order, its registry, its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from mudata import MuData

from totalanvi.training.checks import as_seed, require_flags
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError
from totalanvi.training.network.background import empirical_background_prior
from totalanvi.training.network.beginning import spread_latents
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.library import library_moments
from totalanvi.training.network.vae import TotalVAE
from totalanvi.training.positions import cells_moved, positions_of
from totalanvi.training.registration.cell_covariates import warn_of_large_covariates
from totalanvi.training.registration.codes import Batches, codes_of_batches
from totalanvi.training.registration.panels import warn_of_missing_proteins
from totalanvi.training.registration.register import read_cells, register
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup import SetUp
from totalanvi.training.registration.setup_note import Data, Setup, read_setup, require_set_up_alike

__all__ = ["BaseModel"]

_MIN_PROTEINS_FOR_EMPIRICAL_PRIOR = 10


class BaseModel(SetUp):
    """A network over registered data."""

    _module_class: ClassVar[type[TotalVAE]] = TotalVAE

    module: TotalVAE
    registry: Registry
    seed: int
    is_trained: bool = False
    was_pretrained: bool = False
    """Whether it started from a totalVI model."""
    _setup: Setup
    _adata: Data | None = None
    _cells: Cells | None = None
    _names: pd.Index
    """Names of `_cells` when they were read."""

    def _build(
        self, adata: Data, config: ModelConfig, empirical_prior: bool | None, override_missing_proteins: bool, seed: int
    ) -> None:
        """Register ``adata`` and make the network for it."""
        require_flags(
            override_missing_proteins=override_missing_proteins,
            empirical_protein_background_prior=empirical_prior is not None and empirical_prior,
        )
        self.seed = as_seed(seed)
        self._setup = read_setup(adata)
        self.registry, cells = register(adata, self._setup, override_missing_proteins)
        self._keep(adata, cells)
        self._judge_labels()
        warn_of_missing_proteins(self.registry)
        warn_of_large_covariates(self.registry.continuous_covariates, cells.continuous)
        if empirical_prior is None:
            empirical_prior = len(self.registry.proteins) > _MIN_PROTEINS_FOR_EMPIRICAL_PRIOR
        dims = self.registry.dimensions
        background = empirical_background_prior(cells, dims.n_panels, self.seed) if empirical_prior else None
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.module = self._module_class(dims, config, background, library_moments(cells, dims.n_batches))
        self.module.usual_covariates.learn(cells, dims)
        spread_latents(self.module, cells, self.seed)
        self._tell_module()

    @property
    def adata(self) -> Data | None:
        """The model's data, or `None` without any; what is put in its place is read as the reference was."""
        return self._adata

    @adata.setter
    def adata(self, adata: Data) -> None:
        """Take other data with the reference's features; a `RegistrationError` says what does not fit."""
        self._attach(adata)

    def _attach(self, adata: Data) -> None:
        """Take other data for the model's own."""
        self._keep(adata, read_cells(adata, self._setup, self.registry, only_genes_of_model=True))

    def _keep(self, adata: Data, cells: Cells) -> None:
        """Have ``adata``, read as ``cells``, for the model's own data."""
        self._adata, self._cells, self._names = adata, cells, self._names_in(adata)

    def _names_in(self, adata: Data) -> pd.Index:
        names: pd.Index = (adata.mod[self._setup.rna] if isinstance(adata, MuData) else adata).obs_names
        return names

    def _read(self, adata: Data) -> Cells:
        """Read data that a user gives."""
        if adata is not self._adata:
            require_set_up_alike(adata, self._setup)
        return read_cells(adata, self._setup, self.registry)

    def _tell_module(self) -> None:
        """Let the network say what users ask it for."""
        mask = self.registry.panel_mask()
        self.module.protein_batch_mask = None if mask.all() else {str(code): row for code, row in enumerate(mask)}

    def _judge_labels(self) -> None:
        """TotalANVI refuses data without labels here, and warns of labels that hardly are types."""

    def _own_cells(self) -> Cells | None:
        """Cells of the model's data as it is now, if it has any: data that was subset in place is read again."""
        if self._adata is not None and cells_moved(self._names, self._names_in(self._adata)):
            self._attach(self._adata)
        return self._cells

    def _reference_cells(self) -> Cells:
        cells = self._own_cells()
        if cells is None:
            raise ArgumentError(
                "Expected cells, found that the model was loaded without any; give `adata`, or load it with adata=..."
            )
        return cells

    def _cells_of(self, adata: Data | None, indices: Sequence[int] | None) -> tuple[Cells, pd.Index]:
        """Cells wanted, in model order, with their names."""
        if adata is None:
            cells, source = self._reference_cells(), self._adata
        else:
            cells, source = self._read(adata), adata
        assert source is not None
        names = self._names_in(source)
        positions = np.arange(len(cells)) if indices is None else positions_of(indices, len(cells), "indices")
        if len(positions) == 0:
            raise ArgumentError("Expected cells, found none; look at what chose them.")
        return (cells, names) if indices is None else (cells.chosen(positions), names[positions])

    def _batch_codes(self, batches: Batches | None) -> list[int | None]:
        """Codes of the batches to decode as; `None` for each cell's own."""
        return [None] if batches is None else [*codes_of_batches(self.registry.batches, batches, "transform_batch")]

    def __repr__(self) -> str:
        """Say what it is and whether it is trained."""
        dims = self.registry.dimensions
        state = "trained" if self.is_trained else "not trained"
        return (
            f"{type(self).__name__}({dims.n_genes} genes, {dims.n_proteins} proteins, {dims.n_batches} batches, "
            f"{dims.n_labels} labels, n_latent={self.module.config.n_latent}, {state})"
        )
