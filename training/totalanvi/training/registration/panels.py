"""Panels: which cells belong to which, and which proteins they measured.

A protein that is zero in all cells of a panel is taken as not measured there, as in totalVI (Gayoso, Steier et al.,
Nature Methods 18, 2021); a cell without any protein count was not measured at all.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import listed
from totalanvi.training.registration.codes import codes_of
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import Setup
from totalanvi.training.registration.tables import Tables

__all__ = [
    "as_rows",
    "have_proteins",
    "lacks_panels",
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
    protein: npt.NDArray[np.float32], panel: npt.NDArray[np.int64], n_panels: int, override_missing: bool = False
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
    override_missing
        Take every protein of a panel that has any count as measured.
    """
    measured = np.zeros((n_panels, protein.shape[1]), bool)
    for code in range(n_panels):
        seen = (protein[panel == code] > 0).any(axis=0)
        measured[code] = seen.any() if override_missing else seen
    return measured


def have_proteins(protein: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which cells have any protein count, (cells, 1); the others were not measured."""
    return np.asarray(protein.any(axis=1, keepdims=True))


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
    lacking = [name for name, row in zip(registry.panels, registry.panel_proteins, strict=True) if not all(row)]
    if lacking:
        warnings.warn(
            f"Some proteins are zero in all cells of {listed(lacking)}: they count as missing there, not as zero. If "
            "they were measured and are truly absent, make the model again with override_missing_proteins=True.",
            UserWarning,
            stacklevel=2,
        )
