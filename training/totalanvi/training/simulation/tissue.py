"""The truth behind simulated cells: a tree of cell types, gene programmes, markers, proteins and batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import ArgumentError
from totalanvi.training.simulation.names import gene_names, label_names, protein_names

__all__ = ["STATES", "Tissue", "draw_tissue", "membership"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# In units of the spread of cells within a type.
LINEAGE_DISTANCE = 7.0
TYPE_DISTANCE = 4.4
UNSEEN_STRETCH = 1.5
"""How much longer than its siblings' the branch of the unseen type is."""
STATES = 2
"""Latent dimensions that every type shares: a cell's state (activation, cycle), which no label tells."""


@dataclass(frozen=True)
class Tissue:
    """What all cells of one seed share. The last type is one that references never contain."""

    labels: list[str]
    genes: list[str]
    proteins: list[str]
    centres: Floats  # (labels, type dimensions)
    abundance: Floats  # (genes,) log
    loadings: Floats  # (type dimensions + STATES, genes) log fold change per latent unit
    markers: Floats  # (labels, genes) log fold change
    dispersion: Floats  # (genes,)
    encoding: Integers  # (proteins,) the gene of each protein
    expressed: Floats  # (labels, proteins) probability that the protein is on
    foreground: Floats  # (proteins,) log mean
    foreground_loadings: Floats  # (STATES, proteins)
    background: Floats  # (proteins,) log mean
    gene_shift: Floats  # (batches, genes) log
    protein_shift: Floats  # (batches, proteins) log, of the background
    depth: Floats  # (batches,) log, of the library


def _directions(rng: np.random.Generator, n: int, dimensions: int) -> Floats:
    """Return (n, dimensions) unit vectors, orthogonal in groups, so that siblings lie equally far apart."""
    groups = [np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0].T for _ in range(-(-n // dimensions))]
    return np.concatenate(groups)[:n]


def draw_tissue(rng: np.random.Generator, n_genes: int, n_proteins: int, n_labels: int, n_batches: int) -> Tissue:
    """Draw a tissue of ``n_labels`` known types and an unseen one, seen in ``n_batches`` batches and a query's.

    Raises
    ------
    ArgumentError
        For more proteins than genes.
    """
    if n_proteins > n_genes:
        raise ArgumentError(
            f"n_proteins: expected at most one for each of {n_genes} genes, found {n_proteins}; ask for fewer."
        )
    n_types, n_all_batches = n_labels + 1, n_batches + 1
    labels, lineage = label_names(n_types)
    dimensions = max(8, 2 * int(np.ceil(np.log2(n_types))))
    n_lineages = int(lineage.max()) + 1
    steps = np.empty((n_types, dimensions))
    for i in range(n_lineages):
        steps[lineage == i] = _directions(rng, int(np.sum(lineage == i)), dimensions)
    steps[-1] *= UNSEEN_STRETCH
    # Orthogonal steps of length d / √2 end at distance d of each other.
    lineages = LINEAGE_DISTANCE / np.sqrt(2) * _directions(rng, n_lineages, dimensions)
    centres = lineages[lineage] + TYPE_DISTANCE / np.sqrt(2) * steps

    loadings = rng.normal(0, 0.35, (dimensions + STATES, n_genes)) * (rng.random((dimensions + STATES, n_genes)) < 0.3)
    n_markers = max(2, n_genes // 100)
    markers = np.zeros((n_types, n_genes))
    for row in markers:
        row[rng.choice(n_genes, n_markers, replace=False)] = rng.uniform(1.0, 2.5, n_markers)
    encoding = rng.choice(n_genes, n_proteins, replace=False)

    # Some proteins mark a lineage, some a type, and some several types.
    on = rng.random((n_types, n_proteins)) < 0.15
    marks_lineage = rng.random(n_proteins) < 0.4
    marked = rng.permutation(np.arange(n_proteins) % n_types)
    on |= np.where(marks_lineage, lineage[:, None] == lineage[marked], np.arange(n_types)[:, None] == marked)
    return Tissue(
        labels=labels,
        genes=gene_names(n_genes, encoding),
        proteins=protein_names(n_proteins),
        centres=centres,
        abundance=rng.normal(0, 1.3, n_genes),
        loadings=loadings,
        markers=markers,
        dispersion=rng.lognormal(1.0, 0.5, n_genes),
        encoding=encoding,
        expressed=np.where(on, rng.uniform(0.85, 0.98, n_proteins), rng.uniform(0.0, 0.05, n_proteins)),
        foreground=rng.uniform(np.log(60), np.log(1500), n_proteins),
        foreground_loadings=rng.normal(0, 0.35, (STATES, n_proteins)),
        background=rng.normal(np.log(12), 0.7, n_proteins),
        gene_shift=rng.normal(0, 0.2, (n_all_batches, n_genes)),
        protein_shift=rng.normal(0, 0.25, (n_all_batches, n_proteins)),
        depth=rng.permutation(np.linspace(-0.25, 0.25, n_all_batches)),
    )


def membership(place: Floats, centres: Floats) -> Floats:
    """Return (cells, labels): how much of each type's character a cell at its place has; rows sum to 1.

    Markers follow this and not the label, so that a cell between two types looks like one.
    """
    closeness = place @ centres.T - 0.5 * np.sum(centres**2, axis=1)
    weight = np.exp(closeness - closeness.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
