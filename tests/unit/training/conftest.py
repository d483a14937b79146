"""Models of the simulated reference that all tests share (see `tests/conftest.py`), in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mudata as md
import numpy as np
import numpy.typing as npt
import pytest
from tests.support.command_line import QuietRun, quiet_runner
from tests.support.reference_cells import FAST
from tests.support.threads import one_thread

from totalanvi.training import TOTALANVI, TOTALVI, simulate


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> QuietRun:
    """Run the command line in this process: exit code and standard error; standard output stays empty."""
    return quiet_runner(capsys)


@pytest.fixture(scope="session")
def truth(reference_mdata: md.MuData) -> npt.NDArray[np.str_]:
    """Type of every cell of the reference, those that it calls unknown included."""
    arguments = {key: int(value) for key, value in reference_mdata.uns["simulation"].items()}
    again = simulate(n_cells=reference_mdata.n_obs, **arguments)
    assert again.obs_names.equals(reference_mdata.obs_names)
    return np.asarray(again["rna"].obs["cell_type"].astype(str))


@pytest.fixture(scope="session")
def trained(checkpoint: Path, reference_mdata: md.MuData) -> TOTALANVI:
    """The trained TotalANVI with its data. Not to be changed."""
    return TOTALANVI.load(checkpoint, adata=reference_mdata)


@pytest.fixture(scope="session")
def trained_totalvi(reference_mdata: md.MuData) -> TOTALVI:
    """TotalVI that has seen the reference for a moment. Not to be changed."""
    model = TOTALVI(reference_mdata, n_latent=6, n_hidden=24)
    model.train(max_epochs=3, batch_size=128, **FAST)
    return model


@pytest.fixture(scope="session")
def saved(trained: TOTALANVI, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `trained`. Not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    trained.save(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """A copy of that checkpoint, to do things to."""
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"
