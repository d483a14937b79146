"""The cells that travel with a checkpoint, as serving takes them, and their average profile."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from totalanvi.serving.cells import AlignedCells
from totalanvi.training.data import Cells

__all__ = ["aligned", "gene_share", "joined", "normalised", "protein_share"]


def aligned(cells: Cells, with_proteins: bool = True) -> AlignedCells:
    """Return registered cells as a query that has all of the model's genes.

    Parameters
    ----------
    cells
        In the model's order of genes and proteins.
    with_proteins
        Whether serving may see the proteins.
    """
    measured = cells.measured if with_proteins else np.zeros_like(cells.measured)
    rna = sp.csr_matrix(cells.rna, dtype=np.float32)
    return AlignedCells(
        rna=rna,
        library=np.asarray(rna.sum(axis=1, dtype=np.float64)).ravel().astype(np.float32),
        protein=np.where(measured, cells.protein, 0).astype(np.float32),
        measured=measured,
    )


def joined(*parts: Cells) -> Cells:
    """Return the cells of all parts, in order."""
    stacked = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Cells)
        if field.name != "rna"
    }
    return Cells(rna=sp.csr_matrix(sp.vstack([part.rna for part in parts])), **stacked)


def gene_share(cells: Cells) -> npt.NDArray[np.float32]:
    """Average share of a cell's counts that each gene has, (genes,); sums to 1."""
    totals = np.asarray(cells.rna.sum(axis=1, dtype=np.float64)).ravel()
    per_cell = sp.diags(1 / np.maximum(totals, 1)) @ cells.rna
    return normalised(np.asarray(per_cell.sum(axis=0)).ravel())


def protein_share(cells: Cells) -> npt.NDArray[np.float32]:
    """Average share per protein over the cells that measured it, (proteins,); sums to 1."""
    counts = np.where(cells.measured, cells.protein, 0).astype(np.float64)
    per_cell = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return normalised(per_cell.sum(axis=0) / np.maximum(cells.measured.sum(axis=0), 1))


def normalised(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Make weights sum to 1; where all are zero, for want of any count, all features weigh the same."""
    total = weights.sum()
    shares = weights / total if total > 0 else np.full(weights.shape, 1 / weights.size)
    return shares.astype(np.float32)
