"""A job that is killed (SIGKILL) at random moments, again and again, loses no cell and maps none twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.support.files import contents, listing
from tests.support.queries import write_anndata
from tests.support.toy_bundle import toy_query

N_KILLS = int(os.environ.get("TOTALANVI_KILLS", "12"))
"""Fifty take a minute (`TOTALANVI_KILLS=50`)."""

N_CELLS = {"donor1": 150, "donor2": 90}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_lose_no_cell_and_repeat_none(toy_folder: Path, tmp_path: Path) -> None:
    queries = [
        write_anndata(toy_query(n_cells, seed), tmp_path / f"{name}.h5ad")
        for seed, (name, n_cells) in enumerate(N_CELLS.items())
    ]
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    command = [
        sys.executable,
        "-m",
        "tests.support.killed_jobs",
        toy_folder,
        folder,
        whole,
        str(N_KILLS),
        "7",
        *queries,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]

    assert sum(run["killed"] for run in runs) == N_KILLS
    assert sum(0 < run["more"] < 31 for run in runs if run["killed"]) > N_KILLS / 4, "few kills fell into the work"
    assert [run["redone"] for run in runs if run["redone"]] == []
    assert _kept(folder) == _kept(whole)
    assert listing(folder) == ["_job", "_summary.json", "donor1", "donor2"]
    assert listing(folder / "_job") == ["job.json", "lock", "queries"]
    for name, n_cells in N_CELLS.items():
        assert pq.read_table(folder / name)["cell_id"].to_pylist() == [f"cell{place}" for place in range(n_cells)]


def _kept(folder: Path) -> dict[str, bytes]:
    """Every part and every entry of the ledger, byte for byte; the summary tells of one run alone."""
    return {name: content for name, content in contents(folder).items() if name != "_summary.json"}
