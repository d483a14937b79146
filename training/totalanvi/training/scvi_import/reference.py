"""The cells of the reference of a saved model, for those that travel with our checkpoint.

``model.save(folder, save_anndata=True)`` of scvi-tools puts them beside the model; otherwise the user has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from mudata import MuData

from totalanvi.training.checkpoints.folder import DATA_FILES
from totalanvi.training.data import Cells
from totalanvi.training.errors import RegistrationError
from totalanvi.training.files import read_reference
from totalanvi.training.fitting.split import Split
from totalanvi.training.registration.panels import as_rows, measured_by_group
from totalanvi.training.registration.register import read_cells
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.tables import read_tables
from totalanvi.training.scvi_import.names import setup_of
from totalanvi.training.scvi_import.saves import ScviSave

__all__ = ["Reference", "data_beside", "read_reference_of"]

Positions = npt.NDArray[np.intp]

_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Reference:
    """Cells of a reference, and what they add to what its save tells."""

    registry: Registry
    """With Ensembl ids where the data has them, and with what each batch measured."""
    cells: Cells
    split: Split | None
    """Which cells trained; `None` where the save does not tell of these cells."""

    def landmarks_and_held_out(self) -> tuple[Positions, Positions]:
        """Positions of the cells that may stand for the reference, and of those that calibrate an export."""
        if self.split is not None:
            return self.split.train, np.concatenate((self.split.validation, self.split.test))
        order = np.random.default_rng(0).permutation(len(self.cells))
        n_held_out = int(_HELD_OUT_SHARE * len(self.cells))
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def data_beside(folder: Path, prefix: str = "") -> AnnData | MuData | None:
    """Read the data that was saved beside a model, if any was.

    Raises
    ------
    RegistrationError
        When it cannot be read.
    """
    files = (folder / f"{prefix}{name}" for name in DATA_FILES)
    return next((read_reference(file) for file in files if file.is_file()), None)


def read_reference_of(data: AnnData | MuData, save: ScviSave, registry: Registry) -> Reference:
    """Read the reference of a saved model.

    Parameters
    ----------
    data
        The data that the model was trained on, or other cells like it.
    save
        The model.
    registry
        Its names.

    Raises
    ------
    TrainingError
        When the data lacks a part that the model was set up with, has no counts, or has names that it does not know.
    """
    setup = setup_of(save)
    tables = read_tables(data, setup)
    cells = read_cells(data, setup, registry)
    if cells.rna.nnz == 0:
        raise RegistrationError(
            "Expected the reference's RNA counts, found zeros only, as in data that scvi-tools has minified; give the "
            "data that the model was trained on."
        )
    positions = tables.genes.get_indexer(pd.Index(registry.genes))
    registry = replace(
        registry,
        ensembl_ids=_in_order(tables.ensembl_ids, positions),
        gene_symbols=_in_order(tables.gene_symbols, positions),
    )
    by_batch = measured_by_group(cells.measured, cells.batch, len(registry.batches))
    registry = replace(registry, batch_proteins=as_rows(by_batch))
    split = save.split if save.n_cells == len(cells) else None
    return Reference(registry, cells, None if split is None else _in_our_order(data, setup.rna, split))


def _in_order(names: tuple[str, ...] | None, positions: Positions) -> tuple[str, ...] | None:
    return None if names is None else tuple(names[position] for position in positions)


def _in_our_order(data: AnnData | MuData, rna: str | None, split: Split) -> Split:
    """Positions among the cells of the RNA modality; scvi-tools counts those of the whole MuData."""
    if not isinstance(data, MuData):
        return split
    order = data.mod[rna].obs_names.get_indexer(data.obs_names)
    return Split(order[split.train], order[split.validation], order[split.test])
