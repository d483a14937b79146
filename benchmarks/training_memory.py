"""How much memory training takes when counts stay in their file, and how fast it is beside counts in memory.

One epoch from a file of simulated cells (`large_files`), in processes of their own: read whole, and read in windows.
Which of these two it is makes a difference to nothing but the order of cells, so the ELBO after the epoch has to be the
same within noise. The largest file is read in windows only: read whole, it would not fit the memory that is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import results
from large_files import N_GENES, N_LABELS, N_PROTEINS, write_cells
from speed_inputs import NON_ZERO

HERE = Path(__file__).resolve().parent
SCRIPT, FILES = HERE / "training_in_windows.py", HERE / ".cache" / "training_memory"
RECORD = results.RESULTS / "training_memory.json"
MOST_GIGABYTES, LEAST_RATE = 4.0, 0.5
MOST_DIFFERENCE = 0.01
"""Of the ELBO after an epoch, as a share; another seed makes a difference of 0.3 % from memory."""


def trained(path: Path, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train in a process of its own, and return what it measured."""
    command = [sys.executable, "-W", "ignore", SCRIPT, path, way, "--threads", str(options.threads)]
    command += ["--steps", str(options.steps)] if options.steps else []
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits})
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{path.name:22} {way:8} registered in {measured['register_seconds']:5.1f} s, {measured['steps']} steps: "
        f"{measured['cells_per_second']:6.0f} cells/s, {measured['cells_per_processor_second']:6.0f} per processor "
        f"second, {100 * measured['waiting']:.2f} % waiting for cells; ELBO {measured['elbo']:.1f}; peak "
        + ", ".join(f"{value:.2f} GB {name}" for name, value in measured["peak_gigabytes"].items()),
        flush=True,
    )
    return measured


def compared(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train both ways in turns; rates are those of all rounds together."""
    runs: dict[str, list[dict[str, Any]]] = {"memory": [], "windows": []}
    for _ in range(options.rounds):
        for way, done in runs.items():
            done.append(trained(path, way, options))
    memory, windows = runs["memory"], runs["windows"]
    difference = abs(windows[-1]["elbo"] / memory[-1]["elbo"] - 1)
    if not difference < MOST_DIFFERENCE:
        sys.exit(f"Expected the ELBO of memory, {memory[-1]['elbo']:.1f}, from windows, {windows[-1]['elbo']:.1f}.")
    ratios = {
        f"{name}_ratio": sum(run[name] for run in windows) / sum(run[name] for run in memory)
        for name in ("cells_per_second", "cells_per_processor_second")
    }
    return {"memory": memory[-1], "windows": windows[-1], "elbo_difference": difference, **ratios}


def main() -> None:
    """Measure, print, keep; leave with an error where memory or rate miss what was promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000, help="of the file that is read in windows only")
    parser.add_argument("--compared-cells", type=int, default=200_000, help="of those that are read both ways")
    parser.add_argument("--rounds", type=int, default=1, help="turns of both ways")
    parser.add_argument("--steps", type=int, default=0, help="mini-batches; a whole epoch by default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for suffix in ("h5ad", "zarr"):
        path = FILES / f"cells-{min(options.compared_cells, options.cells)}-seed{options.seed}.{suffix}"
        write_cells(path, min(options.compared_cells, options.cells), options.seed)
        figures[suffix] = compared(path, options)
    large = FILES / f"cells-{options.cells}-seed{options.seed}.h5ad"
    write_cells(large, options.cells, options.seed)
    figures["large"] = trained(large, "windows", options)
    peak = max(figures["large"]["peak_gigabytes"].values())
    rates = [figures[suffix]["cells_per_processor_second_ratio"] for suffix in ("h5ad", "zarr")]
    clock = [figures[suffix]["cells_per_second_ratio"] for suffix in ("h5ad", "zarr")]
    print(f"peak memory: {peak:.2f} GB (at most 4, aim 2)")
    print(
        f"rate from the file beside memory: {clock[0]:.2f} (h5ad) and {clock[1]:.2f} (Zarr) by the clock, "
        f"{rates[0]:.2f} and {rates[1]:.2f} by processor seconds (at least 0.5, aim 0.9)"
    )
    if peak > MOST_GIGABYTES or min(clock) < LEAST_RATE:
        sys.exit("Expected the memory and the rate that were promised, found others; see above.")
    if options.cells < parser.get_default("cells"):
        return  # a quick look is no record
    named = {name: getattr(options, name) for name in ("cells", "compared_cells", "rounds", "steps", "threads", "seed")}
    sizes = {"genes": N_GENES, "proteins": N_PROTEINS, "labels": N_LABELS, "density": NON_ZERO}
    RECORD.write_text(json.dumps({**named, **sizes, "machine": results.machine(), **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
