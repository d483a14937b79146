"""Files in, files out: what every peer script shares. Runs in the peers' environment, which lacks the product."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


@dataclass
class Exchange:
    """One task as a peer sees it, and the answers that the peer gives."""

    folder: Path
    output: Path
    seed: int
    max_epochs: int
    threads: int
    variant: str
    task: dict[str, Any]
    answers: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    processor_seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_arguments(cls, description: str) -> Exchange:
        """Read the command line that the suite calls every peer with."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("folder", type=Path, help="the task's folder")
        parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the answers, .npz")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--max-epochs", type=int, default=100)
        parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
        parser.add_argument("--variant", default="", help="which form of the peer, where it has several")
        options = parser.parse_args()
        return cls(**vars(options), task=json.loads((options.folder / "task.json").read_text()))

    def reference(self) -> ad.AnnData:
        """Cells to train on."""
        return self._read(self.task["reference"])

    def queries(self) -> dict[str, ad.AnnData]:
        """Held-out cells, by query mode."""
        return {mode: self._read(file) for mode, file in self.task["queries"].items()}

    def _read(self, file: str) -> ad.AnnData:
        """Read cells with RNA; proteins go to ``obsm``, NaN where they were not measured."""
        if file.endswith(".h5ad"):
            return ad.read_h5ad(self.folder / file)
        both = md.read_h5mu(self.folder / file)
        cells = both["rna"].copy()
        key = self.task["proteins_key"]
        if key in both.mod:
            cells.obsm[key] = both[key].to_df().reindex(cells.obs_names)
        return cells

    def labels(self, reference: ad.AnnData) -> npt.NDArray[np.str_]:
        """Labels of the reference's cells, an empty string for an unlabelled one."""
        column = reference.obs[self.task["labels_key"]]
        values = column.astype(object).where(column.notna(), "").to_numpy().astype(str)
        return np.where(np.isin(values, self.task["unlabelled"]), "", values)

    def proteins(self, cells: ad.AnnData, mode: str | None = None) -> npt.NDArray[np.float32]:
        """Protein counts (cells, proteins), NaN rows where they were not measured; with `mode` those of its panel."""
        counts = cells.obsm[self.task["proteins_key"]]
        return np.asarray(counts if mode is None else counts[self.task["panels"][mode]], dtype=np.float32)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Record the seconds that a step takes, on the clock and of the processors."""
        start, processor_start = time.perf_counter(), time.process_time()
        yield
        self.seconds[step] = time.perf_counter() - start
        self.processor_seconds[step] = time.process_time() - processor_start

    def answer_labels(self, mode: str, labels: npt.ArrayLike, probabilities: npt.NDArray[Any]) -> None:
        """Give the probabilities (cells, labels) of one query mode."""
        self.answers["labels"] = np.asarray(labels).astype(str)
        self.answers[f"probabilities_{mode}"] = np.asarray(probabilities, dtype=np.float64)

    def answer_novelty(self, mode: str, novelty: npt.NDArray[Any]) -> None:
        """Give a measure of novelty of its own (cells,), high where a cell is unlike the reference."""
        self.answers[f"novelty_{mode}"] = np.asarray(novelty, dtype=np.float64)

    def answer_proteins(self, include: npt.NDArray[Any], exclude: npt.NDArray[Any] | None = None) -> None:
        """Give the counts imputed from RNA (cells, proteins): with background and, where it can be told, without."""
        self.answers["protein_include"] = np.asarray(include, dtype=np.float32)
        self.answers["protein_exclude"] = np.asarray(include if exclude is None else exclude, dtype=np.float32)

    def write(self, *packages: str) -> None:
        """Write the answers, whole or not at all, with the versions of the packages that gave them."""
        temporary = self.output.with_suffix(".tmp.npz")
        record = {
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "versions": {package: version(package) for package in packages},
        }
        np.savez_compressed(temporary, record=np.array(json.dumps(record)), **self.answers)
        temporary.replace(self.output)


def log_normalised(counts: sp.spmatrix) -> sp.csr_matrix:
    """log(1 + counts · 10,000 / total), the total being over the genes at hand. Shape (cells, genes)."""
    rows = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    totals = np.maximum(np.asarray(rows.sum(axis=1)).ravel(), 1)
    rows.data *= np.repeat(1e4 / totals, np.diff(rows.indptr))
    rows.data = np.log1p(rows.data)
    return rows
