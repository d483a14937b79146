"""What is measured on: data sets, cut into references and held-out queries, laid out as plain files.

A case is a folder that the product and every peer read, each in its own environment::

    case/
      task.json            names of keys, unlabelled values, query files, panels, seed (see `Task`)
      reference.h5ad       labelled and unlabelled cells to train on (or .h5mu)
      query_protein.h5ad   held-out cells with RNA and the reference's proteins, labels removed (or .h5mu, or absent)
      query_part.h5ad      the same cells with some of the proteins (or absent)
      query_rna.h5ad       the same cells with RNA only
      truth.npz            labels and proteins of the held-out cells, for scoring alone (see `Truth`)

A task is one case, or several whose figures are averaged: each batch unseen in turn, each type left out in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.bmmc import DONORS, bmmc
from tasks.layout import Task, Truth
from tasks.mosaic import BATCHES, mosaic_seen, mosaic_unseen
from tasks.pbmc10k import LABELS, pbmc10k, pbmc10k_novel, pbmc10k_other_run
from tasks.simulated import simulated

__all__ = ["DATA", "TASKS", "Family", "Task", "Truth", "prepare"]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Where the real cells lie, beside the repository; `--data` names another place."""


@dataclass(frozen=True)
class Family:
    """The cases of one task."""

    write: Callable[[Path, int, Path, str], Task]
    """Writes a case's files into a folder, given the seed, the folder of the real cells and the case."""
    cases: tuple[str, ...] = ("",)

    def names(self, task: str) -> list[str]:
        """What the cases' folders and results are called: ``pbmc10k``, or ``pbmc10k_novel.CD4_T`` and so on."""
        return [f"{task}.{case.replace(' ', '_')}" if case else task for case in self.cases]


TASKS = {
    "pbmc10k": Family(pbmc10k),
    "pbmc10k_other_run": Family(pbmc10k_other_run),
    "pbmc10k_novel": Family(pbmc10k_novel, LABELS),
    "mosaic_unseen": Family(mosaic_unseen, BATCHES),
    "mosaic_seen": Family(mosaic_seen),
    "bmmc": Family(bmmc, DONORS),
    "simulated": Family(simulated),
}


def prepare(task: str, seed: int, data: Path, cache: Path) -> dict[str, Path]:
    """Return the folder of each case inside ``cache``, made on first use, by the case's name."""
    family = TASKS[task]
    folders = {name: cache / f"{name}-seed{seed}" for name in family.names(task)}
    for folder, case in zip(folders.values(), family.cases, strict=True):
        if not (folder / "task.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            family.write(folder, seed, data, case).write(folder)
    return folders
