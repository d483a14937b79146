"""What is measured on: a data set, cut into a reference and held-out queries, laid out as plain files.

A task is a folder that the product and every peer read, each in its own environment::

    task/
      task.json            names of keys, unlabelled values, query files, seed (see `Task`)
      reference.h5ad       labelled and unlabelled cells to train on (or .h5mu)
      query_protein.h5ad   held-out cells with RNA and proteins, labels removed (or .h5mu, or absent)
      query_rna.h5ad       the same cells with RNA only
      truth.npz            labels and proteins of the held-out cells, for scoring alone (see `Truth`)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd

md.set_options(pull_on_update=False)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Where the real cells lie, beside the repository; `--data` names another place."""


@dataclass(frozen=True)
class Task:
    """Everything a method has to know besides the files of the task's folder."""

    name: str
    seed: int
    labels_key: str
    unlabelled: tuple[str, ...]
    proteins_key: str
    batch_key: str | None
    reference: str
    queries: dict[str, str]
    """Query mode, ``protein`` or ``rna``, to the file of its cells; the cells are the same in every mode."""

    def write(self, folder: Path) -> None:
        """Write ``task.json``; it is written last, so that a folder that has it is complete."""
        (folder / "task.json").write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read ``task.json``."""
        fields = json.loads((folder / "task.json").read_text())
        return cls(**{**fields, "unlabelled": tuple(fields["unlabelled"])})


@dataclass(frozen=True)
class Truth:
    """What the held-out cells really are.

    ``labels`` (cells,) holds an empty string for an unlabelled cell; ``protein`` (cells, proteins) holds raw counts.
    """

    cell_ids: npt.NDArray[np.str_]
    labels: npt.NDArray[np.str_]
    protein_names: npt.NDArray[np.str_]
    protein: npt.NDArray[np.float32]

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """Read ``truth.npz``."""
        with np.load(folder / "truth.npz") as arrays:
            return cls(**{name: arrays[name] for name in ("cell_ids", "labels", "protein_names", "protein")})


def split(n_cells: int, seed: int, held_out: float = 0.2) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut cells into training and held-out ones at random, labels unseen.

    Returns
    -------
    Sorted indices of the training cells and of the held-out cells.
    """
    order = np.random.default_rng(seed).permutation(n_cells)
    n_held_out = round(held_out * n_cells)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def write_truth(
    folder: Path, cell_ids: pd.Index, labels: pd.Series, unlabelled: tuple[str, ...], protein: pd.DataFrame | None
) -> None:
    """Write ``truth.npz``; ``protein`` is None where the held-out cells have none."""
    values = labels.astype(str).to_numpy()
    np.savez(
        folder / "truth.npz",
        cell_ids=cell_ids.to_numpy().astype(str),
        labels=np.where(np.isin(values, unlabelled), "", values).astype(str),
        protein_names=np.array([] if protein is None else protein.columns.to_numpy(), dtype=str),
        protein=np.zeros((len(cell_ids), 0), np.float32) if protein is None else protein.to_numpy(dtype=np.float32),
    )


def pbmc10k(folder: Path, seed: int, data: Path) -> Task:
    """PBMC 10k CITE-seq: one run, gated types, an 80/20 split of its cells."""
    labels_key, proteins_key, unlabelled = "gated_l1", "protein_expression", ("undefined", "unmatched")
    cells = ad.read_h5ad(data / "pbmc10k_citeseq.h5ad")
    train, test = split(cells.n_obs, seed)
    cells[train].copy().write_h5ad(folder / "reference.h5ad")

    held_out = cells[test].copy()
    write_truth(folder, held_out.obs_names, held_out.obs[labels_key], unlabelled, held_out.obsm[proteins_key])
    held_out.obs = held_out.obs[["batch"]]
    held_out.write_h5ad(folder / "query_protein.h5ad")
    del held_out.obsm[proteins_key]
    held_out.write_h5ad(folder / "query_rna.h5ad")

    queries = {"protein": "query_protein.h5ad", "rna": "query_rna.h5ad"}
    return Task("pbmc10k", seed, labels_key, unlabelled, proteins_key, "batch", "reference.h5ad", queries)


RNA_ONLY_BATCH = "p1_0"


def mosaic_unseen(folder: Path, seed: int, data: Path) -> Task:
    """PBMC mosaic: its RNA-only batch is the query, a batch that the reference has never seen."""
    cells = md.read_h5mu(data / "pbmc_mosaic.h5mu")
    return mosaic("mosaic_unseen", folder, seed, cells, (cells.obs["batch"] == RNA_ONLY_BATCH).to_numpy())


def mosaic_seen(folder: Path, seed: int, data: Path) -> Task:
    """PBMC mosaic: half of its RNA-only batch is the query, the other half a labelled part of the reference."""
    cells = md.read_h5mu(data / "pbmc_mosaic.h5mu")
    rna_only = np.flatnonzero(cells.obs["batch"] == RNA_ONLY_BATCH)
    held_out = np.zeros(cells.n_obs, dtype=bool)
    held_out[rna_only[split(len(rna_only), seed, held_out=0.5)[1]]] = True
    return mosaic("mosaic_seen", folder, seed, cells, held_out)


def mosaic(name: str, folder: Path, seed: int, cells: md.MuData, held_out: npt.NDArray[np.bool_]) -> Task:
    """Write a mosaic task: MuData in which some cells lack RNA, some lack proteins; the held-out ones have RNA only."""
    cells[~held_out].copy().write_h5mu(folder / "reference.h5mu")
    query = cells[held_out]["rna"].copy()
    write_truth(folder, query.obs_names, query.obs["celltype"], (), None)
    query.obs = query.obs[["batch"]]
    md.MuData({"rna": query}).write_h5mu(folder / "query_rna.h5mu")
    return Task(name, seed, "celltype", (), "adt", "batch", "reference.h5mu", {"rna": "query_rna.h5mu"})


TASKS: dict[str, Callable[[Path, int, Path], Task]] = {
    "pbmc10k": pbmc10k,
    "mosaic_unseen": mosaic_unseen,
    "mosaic_seen": mosaic_seen,
}
"""The data sets by name: each writes its files into a folder, given a seed and the folder of the real cells."""


def prepare(name: str, seed: int, data: Path, cache: Path) -> Path:
    """Return the task's folder inside ``cache``, made on first use."""
    folder = cache / f"{name}-seed{seed}"
    if not (folder / "task.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        TASKS[name](folder, seed, data).write(folder)
    return folder
