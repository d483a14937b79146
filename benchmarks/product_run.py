"""The product as its users run it: `totalanvi train`, `export` and `map`, each a process, files in between."""

from __future__ import annotations

import hashlib
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
PROBABILITY, PROTEIN, LOW, HIGH = "probability:", "protein:", "protein_low:", "protein_high:"
GUESS, NOVELTY, LABEL_SET = "totalanvi_guess", "totalanvi_novelty", "totalanvi_set"


class Commands:
    """Runs the product's commands, each a process of its own, and counts their seconds.

    Parameters
    ----------
    threads
        For each of them.
    """

    def __init__(self, threads: int) -> None:
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}

    def __call__(self, step: str, *arguments: str | Path) -> None:
        """Run a command; ``step`` is what its seconds are called."""
        print("$ totalanvi", *arguments, flush=True)
        started, processor_started = time.perf_counter(), _processor_seconds_of_children()
        subprocess.run([COMMAND, *arguments], check=True, env=self._environment)
        self.seconds[step] = time.perf_counter() - started
        self.processor_seconds[step] = _processor_seconds_of_children() - processor_started


def run(folder: Path, work: Path, max_epochs: int, threads: int) -> Answers:
    """Train on the case in ``folder``, export, map every query.

    ``work`` receives checkpoints, bundles and tables. Cases with the same reference share what was made of it, as long
    as ``work`` is there; each counts the seconds of making it.
    """
    task, commands = Task.read(folder), Commands(threads)
    made = work / _digest(folder / task.reference, task.seed)
    checkpoint, bundle, spent = made / "checkpoint", made / "bundle", made / "seconds.json"
    if not spent.exists():
        made.mkdir()
        train(folder, checkpoint, max_epochs, commands)
        commands("export", "export", checkpoint, "-o", bundle)
        spent.write_text(json.dumps([commands.seconds, commands.processor_seconds]))
    commands.seconds, commands.processor_seconds = json.loads(spent.read_text())
    return map_queries(folder, bundle, made, commands)


def train(folder: Path, checkpoint: Path, max_epochs: int, commands: Commands) -> None:
    """Train on the case in ``folder``."""
    task = Task.read(folder)
    unlabelled: list[str] = [part for value in task.unlabelled for part in ("--unlabeled", value)]
    options = ["--labels", task.labels_key, *unlabelled, "--batch", task.batch_key, "--proteins", task.proteins_key]
    options += ["--max-epochs", str(max_epochs), "--seed", str(task.seed)]
    commands("train", "train", folder / task.reference, *options, "-o", checkpoint)


def map_queries(folder: Path, bundle: Path, work: Path, commands: Commands) -> Answers:
    """Map every query of the case in ``folder`` with a bundle; ``work`` receives tables."""
    task, truth, commit = Task.read(folder), Truth.read(folder), _commit()
    tables: dict[str, pd.DataFrame] = {}

    def map_query(step: str, mode: str, *options: str) -> pd.DataFrame:
        output = work / f"{task.name}_{step}.parquet"
        proteins = task.proteins_key if task.panels[mode] else "none"
        commands(step, "map", bundle, folder / task.queries[mode], "-o", output, "--proteins", proteins, *options)
        cells: pd.DataFrame = pd.read_parquet(output).set_index("cell_id")
        in_order: pd.DataFrame = cells.loc[truth.cell_ids.tolist()]
        return in_order

    imputed: dict[str, pd.DataFrame] = {}
    for mode in task.queries:
        if mode == "rna" and len(truth.protein_names):
            for background in ("exclude", "include"):
                options = ["--background", background, "--samples", str(SAMPLES)]
                imputed[background] = map_query(f"map_{mode}_{background}", mode, *options)
            tables[mode] = imputed["include"]
        else:
            tables[mode] = map_query(f"map_{mode}", mode, "--no-impute")

    def proteins(background: str, prefix: str) -> npt.NDArray[np.float32] | None:
        columns = [prefix + str(name) for name in truth.protein_names]
        if background not in imputed or not set(columns) <= set(imputed[background].columns):
            return None
        return imputed[background][columns].to_numpy(dtype=np.float32)

    labels = json.loads((bundle / "manifest.json").read_text())["labels"]
    columns = [PROBABILITY + label for label in labels]
    return Answers(
        labels=np.array(labels, dtype=str),
        probabilities={mode: table[columns].to_numpy(dtype=np.float64) for mode, table in tables.items()},
        # Versions that say "unknown" of novel cells say their best guess beside; others say it in the label.
        guesses={
            mode: table[GUESS if GUESS in table else "totalanvi_label"].to_numpy().astype(str)
            for mode, table in tables.items()
        },
        novelty={mode: table[NOVELTY].to_numpy(dtype=np.float64) for mode, table in tables.items()},
        sets={
            mode: np.array([[label in held.split("|") for label in labels] for held in table[LABEL_SET].fillna("")])
            for mode, table in tables.items()
            if LABEL_SET in table
        },
        protein_include=proteins("include", PROTEIN),
        protein_exclude=proteins("exclude", PROTEIN),
        protein_low=proteins("include", LOW),
        protein_high=proteins("include", HIGH),
        seconds=commands.seconds,
        processor_seconds=commands.processor_seconds,
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


def _digest(reference: Path, seed: int) -> str:
    with reference.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}-{seed}"


def _commit() -> str:
    """Name the code that is measured; changes that no commit holds show as ``-dirty``."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
