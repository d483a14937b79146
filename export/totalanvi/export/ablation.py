"""How much a reference's own cells lose when genes are taken from them: when a query is to be warned of, or refused.

Genes are drawn in two ways, each as likely as any other, and in proportion to their weight in the model; what remains
is measured in that weight. At each weight the worst draw counts. A gene that a query lacks is treated here
as serving treats it: no counts, and a library that is scaled up for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import isotonic_regression

from totalanvi.export.reference_cells import aligned
from totalanvi.serving.bundles.thresholds import AblationPoint, GeneAblation, Thresholds
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample
from totalanvi.training.data import Cells

__all__ = ["ablate_genes", "thresholds_of", "without_genes"]

WARN_LOSS = 0.02
"""Of accuracy: below the weight at which so much is lost, alignment warns."""

REFUSE_LOSS = 0.10
"""Below the weight at which so much is lost, or no more than chance is left, alignment refuses."""

_LEVELS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_DRAWS = 2
_MOST_CELLS = 800
_SEED = 0
_LEAST_RATE = 1e-6
"""At which genes of no weight are drawn, relative to that of most: last."""

Shares = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def ablate_genes(engine: Engine, sample: ReferenceSample) -> GeneAblation | None:
    """Label reference cells from RNA alone, with ever fewer genes.

    Parameters
    ----------
    engine
        Of a bundle with its graphs and its reference in place; calibrated or not, for it does not change which label is
        likeliest.
    sample
        Its held-out cells are labelled; where none of them has a label, its landmarks are.

    Returns
    -------
    GeneAblation or None
        None where no cell has a label, as in an imported model whose data came without them.
    """
    weight, share = engine.bundle.reference.gene_weight, engine.bundle.reference.gene_share
    rng = np.random.default_rng(_SEED)
    held_out = bool((sample.held_out.label >= 0).any())
    cells = _some_labelled(sample.held_out if held_out else sample.landmarks, rng)
    if not len(cells):
        return None
    query = aligned(cells, with_proteins=False)

    def accuracy(kept: Mask) -> float:
        scores = engine.score(without_genes(query, kept, share), MapOptions(impute=False))
        return float((scores.logits.argmax(axis=1) == cells.label).mean())

    worst = [
        min(outcomes, key=lambda outcome: outcome[1])
        for level in _LEVELS
        if (outcomes := [(float(weight[kept].sum()), accuracy(kept)) for kept in _draws(weight, level, rng)])
    ]
    points = [*sorted(worst), (1.0, accuracy(np.ones(len(weight), dtype=bool)))]
    smooth = isotonic_regression([reached for _, reached in points]).x
    return GeneAblation(
        n_cells=len(cells),
        held_out=held_out,
        chance=float(np.bincount(cells.label).max() / len(cells)),
        curve=[
            AblationPoint(gene_weight=min(1.0, remaining), accuracy=float(np.clip(reached, 0, 1)))
            for (remaining, _), reached in zip(points, smooth, strict=True)
        ],
    )


def thresholds_of(ablation: GeneAblation | None) -> Thresholds:
    """Read off where accuracy falls by two points (warn), and by ten or to chance (refuse).

    Between two points of the curve the weight is interpolated. Less than the least that was measured is always refused:
    nothing is known of it. Without an ablation nothing is known at all, and no query warned of or refused.

    Examples
    --------
    >>> curve = [{"gene_weight": x, "accuracy": y} for x, y in ((0.1, 0.4), (0.5, 0.9), (1.0, 0.95))]
    >>> found = thresholds_of(GeneAblation(n_cells=100, held_out=True, chance=0.3, curve=curve))
    >>> round(found.gene_weight_warn, 2), round(found.gene_weight_refuse, 2)
    (0.8, 0.46)
    """
    if ablation is None:
        return Thresholds(gene_weight_warn=0, gene_weight_refuse=0)
    weight = np.array([point.gene_weight for point in ablation.curve])
    accuracy = np.array([point.accuracy for point in ablation.curve])
    full = accuracy[-1]
    lowest_good = full - WARN_LOSS
    # A model that is little better than chance cannot lose ten points; what it can lose is refused then.
    lowest_usable = min(max(full - REFUSE_LOSS, ablation.chance), lowest_good)
    return Thresholds(
        gene_weight_warn=_where_reached(weight, accuracy, lowest_good),
        gene_weight_refuse=_where_reached(weight, accuracy, lowest_usable),
        ablation=ablation,
    )


def _where_reached(weight: Shares, accuracy: Shares, wanted: float) -> float:
    """Return the least weight at which a rising curve is at `wanted`; the least there is when it always is."""
    first = int(np.argmax(accuracy >= wanted))
    if first == 0:
        return float(weight[0])
    low, high = accuracy[first - 1], accuracy[first]
    part = (wanted - low) / (high - low)
    return float(weight[first - 1] + part * (weight[first] - weight[first - 1]))


def _some_labelled(cells: Cells, rng: np.random.Generator) -> Cells:
    labelled = np.flatnonzero(cells.label >= 0)
    if len(labelled) > _MOST_CELLS:
        labelled = np.sort(rng.choice(labelled, size=_MOST_CELLS, replace=False))
    return cells[labelled]


def _draws(weight: Shares, level: float, rng: np.random.Generator) -> Iterator[Mask]:
    """Take genes away, in random orders of both kinds, until what is left carries `level`."""
    for rate in (np.ones(len(weight)), np.maximum(weight, _LEAST_RATE * weight.max())):
        for _ in range(_DRAWS):
            # Exponential clocks: the next to ring is drawn in proportion to its rate.
            order = np.argsort(rng.exponential(size=len(weight)) / rate)
            left = 1 - np.cumsum(weight[order], dtype=np.float64)
            kept = np.ones(len(weight), dtype=bool)
            kept[order[: int(np.argmax(left <= level)) + 1]] = False
            if kept.any():
                yield kept


def without_genes(query: AlignedCells, kept: Mask, share: Shares) -> AlignedCells:
    """Return the cells of a query that has only some of the genes."""
    rna = sparse.csr_matrix(query.rna @ sparse.diags(kept.astype(np.float32)), dtype=np.float32)
    rna.eliminate_zeros()
    totals = np.asarray(rna.sum(axis=1, dtype=np.float64)).ravel()
    coverage = max(float(share[kept].sum()), np.finfo(np.float32).tiny)
    library = (totals / coverage).astype(np.float32)
    return AlignedCells(rna=rna, library=library, protein=query.protein, measured=query.measured, present=kept)
