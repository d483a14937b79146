"""Cells to compare torch and serving on: drawn like the reference, and the odd ones at the edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from totalanvi.export.reference_cells import joined
from totalanvi.training.data import UNLABELLED, Cells

__all__ = ["N_DRAWN", "probe_cells"]

N_DRAWN = 256
"""Cells drawn like the reference; the edge cells come on top."""

HUGE = 1e6


def probe_cells(reference: Cells, seed: int = 0) -> Cells:
    """Draw fresh cells, and add edge cells.

    Parameters
    ----------
    reference
        Cells to draw like.
    seed
        The same arguments give the same cells.

    Returns
    -------
    Cells
        `N_DRAWN` cells whose counts are Poisson around those of a reference cell mixed with the average cell, with its
        panel, batch and covariates. After them, with and without proteins: no count at all, a single count, a million
        counts of one gene and protein, a million of each; then a part of the panel alone, without counts and with.
    """
    rng = np.random.default_rng(seed)
    like = reference[rng.integers(len(reference), size=N_DRAWN)]
    drawn = replace(
        like,
        rna=sp.csr_matrix(_redraw(rng, like.rna.toarray())),
        protein=np.where(like.measured, _redraw(rng, like.protein), 0).astype(np.float32),
        label=np.full(N_DRAWN, UNLABELLED),
    )
    return joined(drawn, _edge_cells(drawn, rng))


def _redraw(rng: np.random.Generator, counts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Draw counts around the mean of a cell and of the average cell at its depth, (cells, features)."""
    average = counts.sum(axis=0) / max(float(counts.sum()), 1.0)
    mean = 0.5 * (counts + counts.sum(axis=1, keepdims=True) * average)
    return np.asarray(rng.poisson(mean), dtype=np.float32)


def _edge_cells(drawn: Cells, rng: np.random.Generator) -> Cells:
    n_genes, n_proteins = drawn.rna.shape[1], drawn.protein.shape[1]

    def row(n_features: int, value: float, everywhere: bool) -> npt.NDArray[np.float32]:
        counts = np.zeros(n_features, dtype=np.float32)
        counts[slice(None) if everywhere else rng.integers(n_features)] = value
        return counts

    kinds = [(0.0, False), (1.0, False), (HUGE, False), (HUGE, True)]
    whole = np.ones(n_proteins, dtype=bool)
    part = np.arange(n_proteins) < max(1, n_proteins // 2)
    rows = [(row(n_genes, *kind), row(n_proteins, *kind), panel) for kind in kinds for panel in (whole, ~whole)]
    rows += [(drawn.rna[0].toarray()[0], counts, part) for counts in (0 * drawn.protein[0], drawn.protein[0])]
    rna, protein, measured = (np.stack(column) for column in zip(*rows, strict=True))
    return replace(
        drawn[: len(rows)],
        rna=sp.csr_matrix(rna),
        protein=np.where(measured, protein, 0).astype(np.float32),
        measured=measured,
    )
