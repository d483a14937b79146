"""Measure the product beside its peers, on cells that none of them has trained on.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/accuracy.py --help`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

import answers
import peer_runs
import product_run
import results
import tables
import tasks

CACHE = Path(__file__).resolve().parent / ".cache"
PRODUCT = "totalanvi"
TITLES = {PRODUCT: "totalanvi", **{name: peer.title for name, peer in peer_runs.PEERS.items()}}
QUICK = [name for name in TITLES if name == PRODUCT or not peer_runs.PEERS[name].epochs]
FULL_SEEDS = [0, 1, 2, 3, 4]


def main(
    task: Annotated[list[str] | None, typer.Option(help="Data set; may be repeated; pbmc10k if left out.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of the split and of training; may be repeated; 0 if left out.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to measure; may be repeated; the product and the quick peers if left out."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All tasks, five seeds, all methods, unless named.")] = False,
    max_epochs: Annotated[int, typer.Option(help="Most passes over the cells, for each deep model.", min=1)] = 100,
    data: Annotated[Path, typer.Option(help="Folder of the real cells.")] = tasks.DATA,
    threads: Annotated[int, typer.Option(help="Threads for each method.", min=1)] = os.cpu_count() or 1,
    report: Annotated[bool, typer.Option("--report", help="Measure nothing; print the results on file.")] = False,
) -> None:
    """Measure, write the figures to benchmarks/results/, print the tables."""
    chosen = task or (list(tasks.TASKS) if full else ["pbmc10k"])
    seeds = seed or (FULL_SEEDS if full else [0])
    methods = method or (list(TITLES) if full else QUICK)
    _require_known("task", chosen, list(tasks.TASKS))
    _require_known("method", methods, list(TITLES))
    if not report:
        if not data.is_dir():
            raise typer.BadParameter(f"expected the folder of the real cells, found nothing at {data}: name it")
        if any(name in peer_runs.PEERS for name in methods):
            peer_runs.set_up()
        # One task after the other for each seed: several share a reference, which is then trained once.
        for number in seeds:
            with tempfile.TemporaryDirectory() as work:
                for name in chosen:
                    cases = tasks.prepare(name, number, data, CACHE)
                    _measure(cases, number, methods, max_epochs, threads, Path(work))
    for name in chosen:
        cases = tasks.TASKS[name].names(name)
        over = f"{len(cases)} cases, " if len(cases) > 1 else ""
        print(f"\n{name}, {over}seeds {', '.join(map(str, seeds))}, at most {max_epochs} epochs\n")
        print(tables.table(cases, seeds, max_epochs, TITLES))


def _measure(cases: dict[str, Path], seed: int, methods: list[str], max_epochs: int, threads: int, work: Path) -> None:
    for case, folder in cases.items():
        truth = tasks.Truth.read(folder)
        for method in methods:
            if method == PRODUCT:
                given = product_run.run(folder, work, max_epochs, threads)
            else:
                given = peer_runs.run(method, folder, seed, max_epochs, threads)
            results.update(case, seed, max_epochs, threads, method, answers.score(truth, given))


def _require_known(what: str, given: list[str], known: list[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise typer.BadParameter(f"expected a {what} out of {', '.join(known)}, found {', '.join(unknown)}")


if __name__ == "__main__":
    typer.run(main)
