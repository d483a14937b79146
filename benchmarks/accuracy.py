"""Measure the product beside its peers, on real cells that none of them has trained on.

Run it with the product's own interpreter: `.venv/bin/python benchmarks/accuracy.py --help`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

import answers
import peer_runs
import product_run
import results
import tasks

CACHE = Path(__file__).resolve().parent / ".cache"
TITLES = {results.PRODUCT: "totalanvi", **{name: peer.title for name, peer in peer_runs.PEERS.items()}}


def main(
    task: Annotated[list[str] | None, typer.Option(help="Data set; may be repeated.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed of the split and of training; may be repeated.")] = None,
    max_epochs: Annotated[int, typer.Option(help="Most passes over the cells, for each deep model.", min=1)] = 100,
    method: Annotated[
        list[str] | None, typer.Option(help="Method to measure; may be repeated; all if left out.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the real cells.")] = tasks.DATA,
    threads: Annotated[int, typer.Option(help="Threads for each method.", min=1)] = os.cpu_count() or 1,
    report: Annotated[bool, typer.Option("--report", help="Measure nothing; print the results on file.")] = False,
) -> None:
    """Measure, write the figures to benchmarks/results/, print the tables."""
    chosen, seeds, methods = task or ["pbmc10k"], seed or [0], method or list(TITLES)
    _require_known("task", chosen, list(tasks.TASKS))
    _require_known("method", methods, list(TITLES))
    if not report:
        if not data.is_dir():
            raise typer.BadParameter(f"expected the folder of the real cells, found nothing at {data}: name it")
        if any(name in peer_runs.PEERS for name in methods):
            peer_runs.set_up()
        for name in chosen:
            for number in seeds:
                folder = tasks.prepare(name, number, data, CACHE)
                truth = tasks.Truth.read(folder)
                for each in methods:
                    given = _answer(each, folder, number, max_epochs, threads)
                    results.update(name, number, max_epochs, threads, {each: answers.score(truth, given)})
    for name in chosen:
        records = [_read(results.path_of(name, number, max_epochs)) for number in seeds]
        print(f"\n{name}, seeds {', '.join(map(str, seeds))}, at most {max_epochs} epochs\n")
        print(results.table(records, TITLES))


def _answer(method: str, folder: Path, seed: int, max_epochs: int, threads: int) -> answers.Answers:
    if method != results.PRODUCT:
        return peer_runs.run(method, folder, seed, max_epochs, threads)
    with tempfile.TemporaryDirectory() as work:
        return product_run.run(folder, Path(work), max_epochs, threads)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise typer.BadParameter(f"expected results at {path.name}, found none: measure them first, without --report")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def _require_known(what: str, given: list[str], known: list[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise typer.BadParameter(f"expected a {what} out of {', '.join(known)}, found {', '.join(unknown)}")


if __name__ == "__main__":
    typer.run(main)
