"""The files of a case, and how a reference and its held-out cells become them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.formats.mudata_options import not_pulling

not_pulling()

Cells = ad.AnnData | md.MuData


@dataclass(frozen=True)
class Keys:
    """Where things stand in a data set, and which of its labels mean "not labelled"."""

    labels: str
    proteins: str
    """Entry of ``obsm`` of an AnnData, modality of a MuData."""
    batch: str = "batch"
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """Everything a method has to know besides the files of the case's folder."""

    name: str
    seed: int
    labels_key: str
    unlabelled: tuple[str, ...]
    proteins_key: str
    batch_key: str
    reference: str
    queries: dict[str, str]
    """Query mode, ``protein``, ``part`` or ``rna``, to the file of its cells; the cells are the same in every mode."""
    panels: dict[str, list[str]]
    """Query mode to the proteins that its file holds."""

    def write(self, folder: Path) -> None:
        """Write ``task.json``; it is written last, so that a folder that has it is complete."""
        (folder / "task.json").write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read ``task.json``."""
        stored = json.loads((folder / "task.json").read_text())
        return cls(**{**stored, "unlabelled": tuple(stored["unlabelled"])})


@dataclass(frozen=True)
class Truth:
    """What the held-out cells really are.

    ``labels`` (cells,) holds an empty string for an unlabelled cell; ``novel`` (cells,) says whose label no cell of the
    reference has. ``protein`` (cells, proteins) holds the counts of the query's own run, ``protein_as_reference`` what
    the reference's run counted of the same cells: the same numbers unless the query was thinned.
    """

    cell_ids: npt.NDArray[np.str_]
    labels: npt.NDArray[np.str_]
    novel: npt.NDArray[np.bool_]
    protein_names: npt.NDArray[np.str_]
    protein: npt.NDArray[np.float32]
    protein_as_reference: npt.NDArray[np.float32]

    def write(self, folder: Path) -> None:
        """Write ``truth.npz``."""
        np.savez(folder / "truth.npz", **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """Read ``truth.npz``."""
        with np.load(folder / "truth.npz") as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def write_case(
    folder: Path,
    name: str,
    seed: int,
    keys: Keys,
    reference: Cells,
    held_out: Cells,
    part: Sequence[str] = (),
    modes: Sequence[str] = ("protein", "part", "rna"),
    protein_as_reference: pd.DataFrame | None = None,
) -> Task:
    """Write the reference, a query of the held-out cells per mode, and the truth.

    Parameters
    ----------
    folder
        Receives the files.
    name, seed
        Of the task.
    keys
        Where things stand in both sets of cells.
    reference, held_out
        Cells with labels and, where they were measured, proteins; both AnnData or both MuData.
    part
        The proteins of mode ``part``.
    modes
        Which queries to write; held-out cells without proteins have mode ``rna`` alone.
    protein_as_reference
        See `Truth`; (cells, proteins), the held-out cells' own counts when left out.
    """
    suffix = ".h5mu" if isinstance(reference, md.MuData) else ".h5ad"
    protein = proteins_of(held_out, keys.proteins)
    panels: dict[str, list[str]] = {"rna": []}
    if protein is not None:
        panels |= {"protein": list(protein.columns), "part": [str(each) for each in part]}
        panels = {mode: panels[mode] for mode in modes}
    _write(reference, folder / f"reference{suffix}")
    queries = {mode: f"query_{mode}{suffix}" for mode in panels}
    for mode, file in queries.items():
        _write(bare(held_out, keys, panels[mode]), folder / file)
    known = set(_labels(reference, keys)) - {""}
    labels = _labels(held_out, keys)
    protein = pd.DataFrame(index=held_out.obs_names) if protein is None else protein
    Truth(
        cell_ids=held_out.obs_names.to_numpy().astype(str),
        labels=labels,
        novel=~np.isin(labels, ["", *known]),
        protein_names=protein.columns.to_numpy().astype(str),
        protein=protein.to_numpy(dtype=np.float32),
        protein_as_reference=(protein if protein_as_reference is None else protein_as_reference).to_numpy(np.float32),
    ).write(folder)
    return Task(
        name, seed, keys.labels, keys.unlabelled, keys.proteins, keys.batch, f"reference{suffix}", queries, panels
    )


def proteins_of(cells: Cells, key: str) -> pd.DataFrame | None:
    """Return protein counts (cells, proteins) in the order of the cells, None where there are none."""
    if isinstance(cells, ad.AnnData):
        return cells.obsm.get(key)
    if key not in cells.mod or not cells[key].n_obs:
        return None
    return cells[key].to_df().reindex(cells.obs_names)


def bare(cells: Cells, keys: Keys, panel: Sequence[str]) -> Cells:
    """Return RNA counts, batch and the panel's proteins: nothing else, above all no labels."""
    rna = cells if isinstance(cells, ad.AnnData) else cells["rna"]
    query = ad.AnnData(rna.X, obs=rna.obs[[keys.batch]], var=rna.var)
    if not isinstance(cells, md.MuData):
        if len(panel):
            query.obsm[keys.proteins] = cells.obsm[keys.proteins][list(panel)]
        return query
    if not len(panel):
        return md.MuData({"rna": query})
    protein = cells[keys.proteins][:, list(panel)]
    return md.MuData(
        {"rna": query, keys.proteins: ad.AnnData(protein.X, obs=protein.obs[[keys.batch]], var=protein.var)}
    )


def _labels(cells: Cells, keys: Keys) -> npt.NDArray[np.str_]:
    values = cells.obs[keys.labels].astype(str).to_numpy()
    return np.where(np.isin(values, keys.unlabelled), "", values).astype(str)


def _write(cells: Cells, path: Path) -> None:
    (cells.write_h5mu if isinstance(cells, md.MuData) else cells.write_h5ad)(path)
