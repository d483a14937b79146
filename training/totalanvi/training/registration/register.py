"""From an AnnData or a MuData to registered cells.

``setup_anndata`` and ``setup_mudata`` only note, on the object itself, what is where; the model reads that note when it
is made.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from mudata import MuData

from totalanvi.training.data import Cells, registered_cells
from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration.cell_covariates import covariate_categories, read_covariates
from totalanvi.training.registration.codes import codes_of, names_of
from totalanvi.training.registration.features import (
    ADD,
    match_all_proteins,
    match_genes,
    match_proteins,
)
from totalanvi.training.registration.label_codes import label_names, query_labels, reference_labels
from totalanvi.training.registration.panels import (
    as_rows,
    measured_by_cell,
    measured_by_group,
    measured_by_panel,
    panel_codes,
)
from totalanvi.training.registration.protein_counts import ProteinCounts
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Setup
from totalanvi.training.registration.tables import Tables, read_tables

__all__ = ["read_cells", "register"]

_LEAST_CELLS_PER_BATCH, _FEWEST_NAMES_OF_CELLS = 2, 10
"""On average, and where there are so many: then the column holds names of cells, or measurements."""


def register(data: AnnData | MuData, setup: Setup, override_missing_proteins: bool = False) -> tuple[Registry, Cells]:
    """Register a reference.

    Parameters
    ----------
    data
        The reference.
    setup
        Where its parts are.
    override_missing_proteins
        Take a protein that is zero throughout a panel, or a cell, as measured.

    Returns
    -------
    registry, cells
        Names and codes, and the cells in the order of ``data`` (MuData: of its RNA modality).

    Raises
    ------
    MissingKeyError
        For keys that are not there.
    RegistrationError
        For repeated names, no cell, no labelled cell, fewer than two labels, columns with gaps, or batches that hardly
        two cells share.
    CountsError
        For values that are not raw counts.
    """
    tables = read_tables(data, setup)
    _require_counts(tables)
    columns = tables.columns
    labels = label_names(columns, setup)
    batches = names_of(columns, "batch_key", setup.batch_key)
    _require_groups(batches, setup.batch_key, tables.n_cells)
    batch = codes_of(columns, "batch_key", setup.batch_key, batches)
    panels = batches if setup.panel_key is None else names_of(columns, "panel_key", setup.panel_key)
    panel = batch if setup.panel_key is None else codes_of(columns, "panel_key", setup.panel_key, panels)
    panel_proteins = measured_by_panel(tables.protein, panel, len(panels), override_missing_proteins)
    measured = panel_proteins[panel] & measured_by_cell(tables.protein, override_missing_proteins)
    categories = covariate_categories(columns, setup)
    registry = Registry(
        genes=tuple(tables.genes),
        ensembl_ids=tables.ensembl_ids,
        gene_symbols=tables.gene_symbols,
        proteins=tuple(tables.proteins),
        labels=labels,
        unlabeled=setup.unlabeled,
        batches=batches,
        panels=panels,
        batch_proteins=as_rows(measured_by_group(measured, batch, len(batches))),
        panel_proteins=as_rows(panel_proteins),
        setup=asdict(setup),
        categorical_covariates=categories,
        continuous_covariates=setup.continuous_covariate_keys,
        has_size_factor=setup.size_factor_key is not None,
        zeros_count=override_missing_proteins,
    )
    cells = registered_cells(
        rna=tables.rna,
        protein=tables.protein.counts,
        measured=measured,
        batch=batch,
        panel=panel,
        label=reference_labels(columns, setup, labels),
        **read_covariates(columns, setup, categories)._asdict(),
    )
    return registry, cells


def read_cells(data: AnnData | MuData, setup: Setup, registry: Registry, only_genes_of_model: bool = False) -> Cells:
    """Read other cells for a model that exists: features are matched by name, codes by the registry.

    A model that surgery has adapted to a query also takes cells with a part of the proteins, or with none.

    Parameters
    ----------
    data
        The cells.
    setup
        Where its parts are.
    registry
        What the model knows.
    only_genes_of_model
        Refuse data with genes that the model does not know, as when it is to take the place of the reference.

    Raises
    ------
    MissingKeyError
        For keys that are not there; a query without the column of labels counts as unlabelled.
    RegistrationError
        When genes or proteins of the model are missing, or a batch, a panel or a category of a covariate is unknown to
        it.
    CountsError
        For values that are not raw counts.
    """
    tables = read_tables(data, setup, may_lack_proteins=registry.adapted)
    columns = tables.columns
    rna = match_genes(tables, registry.genes, ADD, only_genes_of_model)
    proteins = (match_proteins if registry.adapted else match_all_proteins)(tables, registry.proteins)
    batch = codes_of(columns, "batch_key", setup.batch_key, registry.batches)
    panel = batch if setup.panel_key is None else panel_codes(tables, setup, registry.panels)
    measured = _known_panels(registry, proteins, panel)[panel] & measured_by_cell(proteins, registry.zeros_count)
    return registered_cells(
        rna=rna,
        protein=np.where(measured, proteins.counts, np.float32(0)),
        measured=measured,
        batch=batch,
        panel=panel,
        label=query_labels(columns, setup, registry.labels),
        **read_covariates(columns, setup, registry.categorical_covariates)._asdict(),
    )


def _known_panels(registry: Registry, proteins: ProteinCounts, panel: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which panel measures which protein, (panels, proteins), for cells that the model was not made with."""
    known = registry.panel_mask()
    if not registry.adapted:
        return known
    # A query may have measured, under the name of a panel of the reference, more than the reference did.
    return known | measured_by_panel(proteins, panel, len(registry.panels))


def _require_groups(batches: tuple[str, ...], key: str | None, n_cells: int) -> None:
    if len(batches) >= _FEWEST_NAMES_OF_CELLS and n_cells < _LEAST_CELLS_PER_BATCH * len(batches):
        raise RegistrationError(
            f"Expected batches in obs[{key!r}], which many cells share, found {len(batches)} different values, such as "
            f"{batches[0]!r}, for {n_cells} cells; name the column of runs, lanes or donors, or none."
        )


def _require_counts(tables: Tables) -> None:
    if tables.n_cells == 0 or len(tables.genes) == 0:
        raise RegistrationError(
            f"Expected a reference with cells and genes, found {tables.n_cells} cells and {len(tables.genes)} "
            "genes; look at what filtered it."
        )
    if tables.rna.nnz == 0:
        raise RegistrationError(
            "Expected cells with RNA counts, found zeros only; name the layer that holds raw counts."
        )
    if len(tables.proteins) == 0:
        raise RegistrationError("Expected protein counts, found no protein; give a reference that has some.")
    if not tables.protein.counts.any():
        raise RegistrationError("Expected cells with protein counts, found zeros only; name the protein counts.")
