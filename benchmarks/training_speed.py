"""How long an epoch of training takes beside scvi-tools, and how a step grows with the number of labels.

Simulated cells, half of them labelled, 7.3 % of the RNA counts not zero. The product and the peer run in turns, each in
a process and an environment of its own, with the same cells, mini-batches and threads; threads that wait sleep, as the
product has them, or spin, as the peer has them. What is compared are medians of
the same run on the same machine; absolute times are kept beside them and mean little elsewhere. A fast wrong answer
fails: the ELBO has to fall, and the product must know the labels of the unlabelled cells as well as the peer does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import peer_runs
import results
from training_inputs import N_LABELS, SIZES, draw_cells

SCRIPT = peer_runs.HERE / "peers" / "training_epochs.py"
RECORDS = {"cpu": results.RESULTS / "training_speed.json", "gpu": results.RESULTS / "training_speed_gpu.json"}
MANY_LABELS = 2_000
LEAST_EPOCH_RATIO, MOST_LABEL_RATIO = {"cpu": 4.0, "gpu": 10.0}, 3.0
ACCURACY_TO_SPARE = 0.03
PROCESSOR = "step_processor_seconds"


def timed(python: str | Path, package: str, cells: Path, options: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """Train in a process of its own, and return what it measured."""
    command = [python, "-W", "ignore", SCRIPT, package, cells, "--epochs", str(epochs)]
    command += ["--batch-size", str(options.batch_size), "--threads", str(options.threads)]
    command += ["--accelerator", options.accelerator]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    env = {**os.environ, **limits, "OMP_WAIT_POLICY": "PASSIVE"}  # as the product's command line sets it
    if package != "totalanvi":
        del env["OMP_WAIT_POLICY"]  # as it is in a notebook, where the peer is faster
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    epoch, accuracy = float(np.median(measured["epoch_seconds"])), measured["accuracy"]
    print(f"{package:10} {epoch:8.2f} s an epoch, accuracy {accuracy:.3f}, ELBO {measured['elbo'][-1]:.1f}", flush=True)
    if not (np.isfinite(measured["elbo"]).all() and measured["elbo"][-1] < measured["elbo"][0]):
        sys.exit(f"Expected the ELBO of {package} to fall, found {measured['elbo']}; its time means nothing.")
    return measured


def median(runs: list[dict[str, Any]], name: str) -> float:
    """Median of a figure over all runs."""
    return float(np.median(np.concatenate([np.atleast_1d(run[name]) for run in runs])))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything; return the figures."""
    few, many = folder / "few.h5ad", folder / "many.h5ad"
    draw_cells(options.cells, options.seed).write_h5ad(few)
    draw_cells(max(options.cells, 5 * MANY_LABELS), options.seed, MANY_LABELS).write_h5ad(many)
    ours, theirs, labelled = [], [], []
    for _ in range(options.repeats):
        ours.append(timed(sys.executable, "totalanvi", few, options, options.epochs))
        if not options.no_peer:
            theirs.append(timed(options.peer_python, "scvi-tools", few, options, options.epochs))
        labelled.append(timed(sys.executable, "totalanvi", many, options, 2))
    figures: dict[str, Any] = {
        "totalanvi": {**ours[-1], "epoch_seconds": [seconds for run in ours for seconds in run["epoch_seconds"]]},
        "many_labels": {
            "labels": MANY_LABELS,
            "step_ratio": median(labelled, "step_seconds") / median(ours, "step_seconds"),
            "processor_ratio": median(labelled, PROCESSOR) / median(ours, PROCESSOR),
        },
    }
    if theirs:
        if ours[-1]["accuracy"] < theirs[-1]["accuracy"] - ACCURACY_TO_SPARE:
            sys.exit(f"Expected the peer's accuracy, {theirs[-1]['accuracy']}, found {ours[-1]['accuracy']}.")
        epochs = [seconds for run in theirs for seconds in run["epoch_seconds"]]
        figures["scvi-tools"] = {**theirs[-1], "epoch_seconds": epochs}
        figures["epoch_ratio"] = median(theirs, "epoch_seconds") / median(ours, "epoch_seconds")
        figures["processor_ratio"] = median(theirs, PROCESSOR) / median(ours, PROCESSOR)
    return figures


def main() -> None:
    """Measure, print, keep; leave with an error where a ratio misses what was promised or recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5, help="240 steps in all, at least")
    parser.add_argument("--repeats", type=int, default=2, help="turns of both packages")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="what both train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true", help="the product alone")
    parser.add_argument("--peer-python", type=Path, help="an environment that has scvi-tools; the suite's by default")
    options = parser.parse_args()
    if not options.no_peer and options.peer_python is None:
        peer_runs.set_up()
        options.peer_python = peer_runs.PYTHON
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    names = ("cells", "batch_size", "epochs", "repeats", "threads", "accelerator", "seed")
    named = {name: getattr(options, name) for name in names}
    ratio, growth = figures.get("epoch_ratio"), figures["many_labels"]["step_ratio"]
    record, least = RECORDS[options.accelerator], LEAST_EPOCH_RATIO[options.accelerator]
    print(
        f"{MANY_LABELS} labels instead of {N_LABELS}: a step takes {growth:.2f} times as long (at most 3, aim 1.5), "
        f"{figures['many_labels']['processor_ratio']:.2f} times the processor seconds"
    )
    if ratio is None:
        return
    print(
        f"epoch: {ratio:.2f} times as fast as scvi-tools (at least {least:g}), "
        f"{figures['processor_ratio']:.2f} times fewer processor seconds"
    )
    before = json.loads(record.read_text())["epoch_ratio"] if record.exists() else 0.0
    if ratio < results.SHARE_OF_RECORD * before or growth > MOST_LABEL_RATIO:
        # Not recorded: the next run would be compared with what has failed.
        sys.exit("Expected the ratios on record, found smaller ones, or a step that grows too much; see above.")
    record.write_text(json.dumps({**named, **SIZES, "machine": results.machine(), **figures}, indent=2) + "\n")
    if ratio < least:
        sys.exit(f"Expected an epoch {least:g} times as fast, found {ratio:.2f}; that is on record now.")


if __name__ == "__main__":
    main()
