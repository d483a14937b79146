"""CITE-seq data with a known truth: a reference, and queries drawn from other batches of the same tissue.

Every cell has a place in a latent space in which cell types are the leaves of a tree; neighbouring leaves overlap, so
that no classifier can be perfect. RNA and protein depend on that place (and on the batch) alone:

::

    type ──▶ place z ──▶ gene programmes, markers ──▶ × library size ──▶ NB counts            "rna"
                   └───▶ protein on or off ──▶ foreground + ambient background ──▶ NB counts  "prot"

What cannot be seen in real data is kept beside the counts: ``prot.layers["foreground_mean"]`` and
``["background_mean"]`` (what the assay counts on average, by origin), ``prot.var["gene"]`` (the gene of each protein),
``rna.obsm["X_true"]`` (z), and ``uns["simulation"]`` (the arguments).
"""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training.checks import as_number, as_seed, as_whole
from totalanvi.training.simulation.tissue import STATES, Tissue, draw_tissue, membership

__all__ = ["simulate", "simulate_query"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COUNTS_PER_GENE = 0.25
"""Median library size per gene; chosen for about 90 % zeros whatever the number of genes."""
BLOCK = 2048
"""Cells drawn at once, so that memory does not grow with the number of cells times genes."""
_LEAST = {"n_cells": 1, "n_genes": 20, "n_proteins": 1, "n_labels": 2, "n_batches": 1}


def simulate(
    n_cells: int = 3000,
    n_genes: int = 1000,
    n_proteins: int = 30,
    n_labels: int = 8,
    n_batches: int = 2,
    seed: int = 0,
) -> md.MuData:
    """Simulate a CITE-seq reference.

    Parameters
    ----------
    n_cells, n_genes, n_proteins, n_labels, n_batches
        Sizes. Cell types differ in frequency; each occurs at least once where there are cells enough.
    seed
        The same arguments give the same data.

    Returns
    -------
    MuData
        Modalities ``"rna"`` (cells, genes) and ``"prot"`` (cells, proteins), both CSR float32 with raw counts;
        ``"cell_type"`` and ``"batch"`` in ``obs`` of each and of the whole.

    Raises
    ------
    ArgumentError
        A size below its minimum, or more proteins than genes.

    Examples
    --------
    >>> reference = simulate(n_cells=500, n_genes=200, n_proteins=10, seed=1)
    >>> reference["rna"].shape, reference["prot"].shape
    ((500, 200), (500, 10))
    """
    n_cells, n_genes, n_proteins, n_labels, n_batches = _sizes(
        n_cells=n_cells, n_genes=n_genes, n_proteins=n_proteins, n_labels=n_labels, n_batches=n_batches
    )
    seed = as_seed(seed)
    tissue = draw_tissue(_generator(seed, "tissue"), n_genes, n_proteins, n_labels, n_batches)
    rng = _generator(seed, "reference cells")
    # A gamma of shape 4 leaves rare and common types, the rarest at about a tenth of the commonest.
    label = _draw_labels(rng, rng.gamma(4.0, size=n_labels), n_cells)
    batch = rng.permutation(np.arange(n_cells) % n_batches)
    mdata = _draw_cells(tissue, label, batch, rng, "reference")
    mdata.uns["simulation"] = {
        "n_genes": n_genes,
        "n_proteins": n_proteins,
        "n_labels": n_labels,
        "n_batches": n_batches,
        "seed": seed,
    }
    return mdata


def simulate_query(
    n_cells: int = 1000,
    n_genes: int = 1000,
    n_proteins: int = 30,
    n_labels: int = 8,
    n_batches: int = 2,
    seed: int = 0,
    *,
    unseen: float = 0.1,
    without_proteins: float = 0.3,
) -> md.MuData:
    """Simulate a query for the reference that `simulate` draws with the same arguments.

    Its cells come from one further batch, its types in other proportions, and some from a type that the reference never
    saw, a relative of known ones.

    Parameters
    ----------
    n_cells
        Cells of the query.
    n_genes, n_proteins, n_labels, n_batches, seed
        As given to `simulate`.
    unseen
        Share of cells of the unseen type; its name is in ``uns["simulation"]["unseen_label"]``.
    without_proteins
        Share of cells that are absent from the modality ``"prot"``.

    Returns
    -------
    MuData
        As of `simulate`.

    Raises
    ------
    ArgumentError
        As for `simulate`, or a share outside [0, 1].

    Examples
    --------
    >>> query = simulate_query(200, n_genes=200, n_proteins=10, seed=1, without_proteins=0.5)
    >>> query["rna"].n_obs, query["prot"].n_obs
    (200, 100)
    """
    n_cells, n_genes, n_proteins, n_labels, n_batches = _sizes(
        n_cells=n_cells, n_genes=n_genes, n_proteins=n_proteins, n_labels=n_labels, n_batches=n_batches
    )
    seed = as_seed(seed)
    unseen = as_number("unseen", unseen, 0, 1)
    without_proteins = as_number("without_proteins", without_proteins, 0, 1)
    tissue = draw_tissue(_generator(seed, "tissue"), n_genes, n_proteins, n_labels, n_batches)
    rng = _generator(seed, "query cells")
    known = rng.gamma(4.0, size=n_labels)
    n_unseen = round(unseen * n_cells)
    label = np.concatenate([_draw_labels(rng, known, n_cells - n_unseen), np.full(n_unseen, n_labels)])
    label = rng.permutation(label)
    mdata = _draw_cells(tissue, label, np.full(n_cells, n_batches), rng, "query", without_proteins)
    mdata.uns["simulation"] = {"seed": seed, "unseen_label": tissue.labels[-1]}
    return mdata


def _sizes(**sizes: int) -> tuple[int, ...]:
    return tuple(as_whole(name, size, _LEAST[name]) for name, size in sizes.items())


def _generator(seed: int, purpose: str) -> np.random.Generator:
    """Return an independent stream per purpose: the tissue stays the same whatever cells are drawn from it."""
    purposes = ("tissue", "reference cells", "query cells")
    return np.random.default_rng([purposes.index(purpose), seed])


def _draw_labels(rng: np.random.Generator, weight: Floats, n_cells: int) -> Integers:
    """Return (n_cells,) labels; every one of them occurs when there are cells enough."""
    each = np.arange(len(weight))[:n_cells]
    drawn = rng.choice(len(weight), n_cells - len(each), p=weight / weight.sum())
    return rng.permutation(np.concatenate([each, drawn])).astype(np.int64)


def _draw_cells(
    tissue: Tissue,
    label: Integers,
    batch: Integers,
    rng: np.random.Generator,
    name: str,
    without_proteins: float = 0.0,
) -> md.MuData:
    place = np.concatenate([tissue.centres[label], np.zeros((len(label), STATES))], axis=1)
    place += rng.normal(size=place.shape)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(label), BLOCK)]
    drawn = [_draw_counts(tissue, place[block], batch[block], rng) for block in blocks]
    rna = sp.vstack([counts for counts, _, _, _ in drawn], format="csr")
    protein, foreground, background = (np.concatenate([part[i] for part in drawn]) for i in (1, 2, 3))

    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([tissue.labels[i] for i in label]),
            "batch": pd.Categorical([f"batch{i + 1}" for i in batch]),
        },
        index=[f"{name}-{i:06d}" for i in range(len(label))],
    )
    kept = np.sort(rng.permutation(len(label))[round(without_proteins * len(label)) :])
    cells = ad.AnnData(rna, obs=obs, var=pd.DataFrame(index=tissue.genes), obsm={"X_true": place.astype(np.float32)})
    proteins = ad.AnnData(
        sp.csr_matrix(protein[kept]),
        obs=obs.iloc[kept],
        var=pd.DataFrame({"gene": [tissue.genes[i] for i in tissue.encoding]}, index=tissue.proteins),
        layers={"foreground_mean": foreground[kept], "background_mean": background[kept]},
    )
    with not_pulling():
        mdata = md.MuData({"rna": cells, "prot": proteins})
    mdata.obs = mdata.obs.join(obs)
    return mdata


def _draw_counts(
    tissue: Tissue, place: Floats, batch: Integers, rng: np.random.Generator
) -> tuple[sp.csr_matrix, npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return RNA counts (cells, genes) and protein counts, foreground and background means (cells, proteins)."""
    n_cells, n_proteins = len(place), len(tissue.proteins)
    character = membership(place[:, :-STATES], tissue.centres)
    probability = character @ tissue.expressed

    log_share = tissue.abundance + place @ tissue.loadings + character @ tissue.markers + tissue.gene_shift[batch]
    # A protein's own gene follows it, but loosely: transcripts come in bursts and proteins stay.
    log_share[:, tissue.encoding] += 1.8 * probability - 0.9 + rng.normal(0, 0.6, (n_cells, n_proteins))
    share = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    library = rng.lognormal(np.log(COUNTS_PER_GENE * len(tissue.genes)) + tissue.depth[batch], 0.45)
    rna = _draw_negative_binomial(rng, library[:, None] * share, tissue.dispersion)

    on = rng.random((n_cells, n_proteins)) < probability
    depth = rng.lognormal(0, 0.25, (n_cells, 1))
    log_foreground = tissue.foreground + place[:, -STATES:] @ tissue.foreground_loadings
    foreground = on * depth * np.exp(log_foreground + rng.normal(0, 0.25, on.shape))
    background = depth * np.exp(tissue.background + tissue.protein_shift[batch] + rng.normal(0, 0.35, on.shape))
    protein = _draw_negative_binomial(rng, foreground + background, np.full(n_proteins, 12.0))
    return sp.csr_matrix(rna), protein, foreground.astype(np.float32), background.astype(np.float32)


def _draw_negative_binomial(rng: np.random.Generator, mean: Floats, dispersion: Floats) -> npt.NDArray[np.float32]:
    return rng.poisson(rng.gamma(dispersion, mean / dispersion)).astype(np.float32)
