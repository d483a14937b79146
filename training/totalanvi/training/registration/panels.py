"""Panels: which cells belong to which, and which proteins they measured.

A protein that is zero in all cells of a panel is taken as not measured there, as in totalVI (Gayoso, Steier et al.,
Nature Methods 18, 2021); a cell without any protein count was not measured at all. With ``override_missing_proteins``,
both are zeros that were measured. What is NaN was not, either way.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import listed
from totalanvi.training.registration.codes import codes_of
from totalanvi.training.registration.protein_counts import ProteinCounts
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Setup
from totalanvi.training.registration.tables import Tables

__all__ = [
    "as_rows",
    "lacks_panels",
    "measured_by_cell",
    "measured_by_group",
    "measured_by_panel",
    "panel_codes",
    "warn_of_missing_proteins",
]


def lacks_panels(tables: Tables, setup: Setup) -> bool:
    """Whether cells have neither a protein table nor the column that would say with which panel they were measured."""
    no_column = setup.panel_key is not None and tables.columns.find(setup.panel_key, "panel_key") is None
    return no_column and len(tables.proteins) == 0


def panel_codes(tables: Tables, setup: Setup, panels: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Panel codes of cells, (cells,).

    Raises
    ------
    RegistrationError
        When the column is not there, has gaps, or names a panel that is not among ``panels``. Cells without a protein
        table need no column.
    """
    if lacks_panels(tables, setup):
        # Nothing was measured: any code will do.
        return np.zeros(tables.n_cells, np.int64)
    return codes_of(tables.columns, "panel_key", setup.panel_key, panels)


def measured_by_panel(
    protein: ProteinCounts, panel: npt.NDArray[np.int64], n_panels: int, zeros_count: bool = False
) -> npt.NDArray[np.bool_]:
    """Which panel measured which protein, (panels, proteins).

    Parameters
    ----------
    protein
        Counts, (cells, proteins).
    panel
        Panel codes, (cells,).
    n_panels
        Number of panels.
    zeros_count
        Take a protein that is zero throughout a panel as measured.
    """
    seen = protein.recorded if zeros_count else protein.counts > 0
    return measured_by_group(seen, panel, n_panels)


def measured_by_cell(protein: ProteinCounts, zeros_count: bool = False) -> npt.NDArray[np.bool_]:
    """What each cell may have measured, (cells, proteins): what there is a count of.

    A cell without any count above 0 was not measured, unless zeros count.
    """
    return protein.recorded if zeros_count else protein.recorded & protein.counts.any(axis=1, keepdims=True)


def measured_by_group(
    measured: npt.NDArray[np.bool_], group: npt.NDArray[np.int64], n_groups: int
) -> npt.NDArray[np.bool_]:
    """Which proteins were measured in any cell of each group, (groups, proteins), from those of each cell."""
    return np.stack([measured[group == code].any(axis=0) for code in range(n_groups)])


def as_rows(mask: npt.NDArray[np.bool_]) -> tuple[tuple[bool, ...], ...]:
    """Rows of a mask as the registry keeps them."""
    return tuple(tuple(row) for row in mask.tolist())


def warn_of_missing_proteins(registry: Registry) -> None:
    """Warn, when a model is made, that some panels lack some proteins."""
    if registry.zeros_count:
        return
    lacking = [name for name, row in zip(registry.panels, registry.panel_proteins, strict=True) if not all(row)]
    if lacking:
        warnings.warn(
            f"Some proteins are zero, or NaN, in all cells of {listed(lacking)}: they count as missing there, not as "
            "zero. If zeros were measured, make the model again, in Python, with override_missing_proteins=True.",
            UserWarning,
            stacklevel=2,
        )
