"""Architecture surgery, the names: a registry that also knows the batches and panels of a query."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace

import numpy as np
from anndata import AnnData
from mudata import MuData

from totalanvi.training.data import Cells, registered_cells
from totalanvi.training.errors import RegistrationError, listed
from totalanvi.training.registration.cell_covariates import read_covariates
from totalanvi.training.registration.codes import added_names, codes_of
from totalanvi.training.registration.features import PREPARE, match_genes, match_proteins, unknown_proteins
from totalanvi.training.registration.label_codes import query_labels
from totalanvi.training.registration.panels import (
    as_rows,
    lacks_panels,
    measured_by_cell,
    measured_by_group,
    measured_by_panel,
    panel_codes,
)
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Setup
from totalanvi.training.registration.tables import read_tables

__all__ = ["extend_registry"]


def extend_registry(registry: Registry, data: AnnData | MuData, setup: Setup) -> tuple[Registry, Cells]:
    """Register a query for surgery (Lotfollahi et al., Nature Biotechnology 40, 2022).

    New batches and panels come after the reference's own, whose codes stay what they are. Labels, genes, proteins and
    the categories of covariates are the reference's.

    Parameters
    ----------
    registry
        What the reference's model knows.
    data
        The query, in an object of the reference's kind. It may lack the protein table, or have another panel: proteins
        are matched by name, those of the model that it lacks were not measured, others are left out. A protein that is
        zero in all of the query's cells of a panel was not measured either, even if the reference measured it in a
        panel of that name.
    setup
        Where the query's parts are.

    Returns
    -------
    registry, cells
        The reference's registry, extended, and the query's cells.

    Raises
    ------
    MissingKeyError
        For keys that are not there; a query without labels, or without the column of panels where it has no proteins,
        is taken.
    RegistrationError
        For no cell, genes that are missing, or unknown categories of covariates.
    CountsError
        For values that are not raw counts.

    Examples
    --------
    >>> registry, cells = extend_registry(model.registry, query, read_setup(query))  # doctest: +SKIP
    """
    tables = read_tables(data, setup, may_lack_proteins=True)
    if tables.n_cells == 0:
        raise RegistrationError("Expected a query with cells, found none; look at what filtered it.")
    columns = tables.columns
    rna = match_genes(tables, registry.genes, PREPARE)
    proteins = match_proteins(tables, registry.proteins)
    if unknown := unknown_proteins(tables, registry.proteins):
        warnings.warn(
            f"The model does not know {len(unknown)} proteins of the query ({listed(unknown)}): they are left out.",
            UserWarning,
            stacklevel=2,
        )
    batches = added_names(columns, "batch_key", setup.batch_key, registry.batches)
    batch = codes_of(columns, "batch_key", setup.batch_key, batches)
    if setup.panel_key is None:
        panels, panel = batches, batch
    else:
        needless = lacks_panels(tables, setup)
        panels = registry.panels if needless else added_names(columns, "panel_key", setup.panel_key, registry.panels)
        panel = panel_codes(tables, setup, panels)
    by_panel = measured_by_panel(proteins, panel, len(panels))
    measured = by_panel[panel] & measured_by_cell(proteins)
    by_batch = measured_by_group(measured, batch, len(batches))
    extended = replace(
        registry,
        batches=batches,
        panels=panels,
        batch_proteins=(*registry.batch_proteins, *as_rows(by_batch[len(registry.batches) :])),
        panel_proteins=(*registry.panel_proteins, *as_rows(by_panel[len(registry.panels) :])),
        setup=asdict(setup),
        zeros_count=False,
        adapted=True,
    )
    cells = registered_cells(
        rna=rna,
        protein=np.where(measured, proteins.counts, np.float32(0)),
        measured=measured,
        batch=batch,
        panel=panel,
        label=query_labels(columns, setup, registry.labels),
        **read_covariates(columns, setup, registry.categorical_covariates)._asdict(),
    )
    return extended, cells
