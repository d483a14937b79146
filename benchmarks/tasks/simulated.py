"""Simulated cells: two batches are the reference, a third, with one unseen type, the query."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import mudata as md

from tasks.layout import Keys, Task, write_case
from tasks.splits import every_other
from totalanvi.training.simulation.simulate import simulate, simulate_query

KEYS = Keys(labels="cell_type", proteins="prot")


def simulated(folder: Path, seed: int, data: Path, case: str) -> Task:
    """Cells as `totalanvi simulate --query` draws them, but for a query that has proteins throughout."""
    reference, held_out = _counts(simulate(seed=seed)), _counts(simulate_query(seed=seed, without_proteins=0))
    part = every_other(reference[KEYS.proteins].var_names)
    return write_case(folder, "simulated", seed, KEYS, reference, held_out, part)


def _counts(cells: md.MuData) -> md.MuData:
    """Return counts, types and batches alone, without what only a simulation knows."""
    counts = {name: ad.AnnData(each.X, obs=each.obs, var=each.var[[]]) for name, each in cells.mod.items()}
    bare = md.MuData(counts)
    bare.obs = cells.obs[[KEYS.labels, KEYS.batch]].loc[bare.obs_names]
    return bare
