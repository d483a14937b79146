"""The product as its users run it: `totalanvi train`, `export` and `map`, each a process, files in between."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd

from answers import Answers
from tasks import Task, Truth

COMMAND = Path(sys.executable).with_name("totalanvi")
SAMPLES = 25
PROBABILITY, PROTEIN = "probability:", "protein:"


def run(folder: Path, work: Path, max_epochs: int, threads: int) -> Answers:
    """Train on the task in ``folder``, export, map every query; ``work`` receives checkpoint, bundle and tables."""
    task, truth, commit = Task.read(folder), Truth.read(folder), _commit()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    seconds: dict[str, float] = {}
    processor_seconds: dict[str, float] = {}

    def totalanvi(step: str, *arguments: str | Path) -> None:
        print("$ totalanvi", *arguments, flush=True)
        started, processor_started = time.perf_counter(), _processor_seconds_of_children()
        subprocess.run([COMMAND, *arguments], check=True, env=environment)
        seconds[step] = time.perf_counter() - started
        processor_seconds[step] = _processor_seconds_of_children() - processor_started

    checkpoint, bundle = work / "checkpoint", work / "bundle"
    unlabelled: list[str] = [part for value in task.unlabelled for part in ("--unlabeled", value)]
    batch = ["--batch", task.batch_key] if task.batch_key else []
    options = ["--labels", task.labels_key, *unlabelled, *batch, "--proteins", task.proteins_key]
    options += ["--max-epochs", str(max_epochs), "--seed", str(task.seed)]
    totalanvi("train", "train", folder / task.reference, *options, "-o", checkpoint)
    totalanvi("export", "export", checkpoint, "-o", bundle)

    tables: dict[str, pd.DataFrame] = {}

    def map_query(step: str, mode: str, *options: str) -> pd.DataFrame:
        output = work / f"{step}.parquet"
        proteins = task.proteins_key if mode == "protein" else "none"
        totalanvi(step, "map", bundle, folder / task.queries[mode], "-o", output, "--proteins", proteins, *options)
        cells: pd.DataFrame = pd.read_parquet(output).set_index("cell_id")
        in_order: pd.DataFrame = cells.loc[truth.cell_ids.tolist()]
        return in_order

    imputed: dict[str, npt.NDArray[np.float32]] = {}
    for mode in task.queries:
        if mode == "rna" and len(truth.protein_names):
            columns = [PROTEIN + name for name in truth.protein_names]
            for background in ("include", "exclude"):
                options = ["--background", background, "--samples", str(SAMPLES)]
                tables[mode] = map_query(f"map_{mode}_{background}", mode, *options)
                imputed[background] = tables[mode][columns].to_numpy(dtype=np.float32)
        else:
            tables[mode] = map_query(f"map_{mode}", mode, "--no-impute")
    labels = json.loads((bundle / "manifest.json").read_text())["labels"]
    return Answers(
        labels=np.array(labels, dtype=str),
        probabilities={
            mode: table[[PROBABILITY + label for label in labels]].to_numpy(dtype=np.float64)
            for mode, table in tables.items()
        },
        protein_include=imputed.get("include"),
        protein_exclude=imputed.get("exclude"),
        seconds=seconds,
        processor_seconds=processor_seconds,
        versions={
            "totalanvi": version("totalanvi"),
            "commit": commit,
            "torch": version("torch"),
            "onnxruntime": onnxruntime.__version__,
        },
    )


def _processor_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _commit() -> str:
    """Name the code that is measured; changes that no commit holds show as ``-dirty``."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
