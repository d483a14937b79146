"""`totalanvi train`, run through the command line's own entry."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pytest
import torch
from tests.support.command_line import QuietRun, exit_code
from tests.support.reference_cells import draw_adata, draw_mudata
from tests.support.terminal import at_a_terminal

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.machine.still_going import still_going
from totalanvi.training import TOTALANVI
from totalanvi.training.checkpoints.checkpoint import read_checkpoint


@pytest.fixture
def h5ad(tmp_path: Path) -> Path:
    draw_adata().write_h5ad(tmp_path / "reference.h5ad")
    return tmp_path / "reference.h5ad"


def test_train_from_h5ad(run: QuietRun, h5ad: Path, tmp_path: Path) -> None:
    output = tmp_path / "folder" / "checkpoint"
    code, said = run(
        *("train", h5ad, "--labels", "kind", "--unlabeled", "unknown", "--batch", "donor"),
        *("--max-epochs", 2, "--seed", 3, "--device", "cpu", "-o", output),
    )
    assert code == 0, said
    assert "20 cells (15 labelled, 2 types), 6 genes, 3 proteins, 2 batches" in said
    assert "\nFitting the readout, which labels and proteins are served from.\nTrained in " in said
    assert "validation accuracy" in said
    assert str(output) in said
    checkpoint = read_checkpoint(output)
    assert checkpoint.kind == "TOTALANVI"
    assert checkpoint.registry.labels == ("B", "T")
    assert checkpoint.registry.batches == ("one", "two")
    assert checkpoint.training["options"]["seed"] == 3
    assert checkpoint.training["n_epochs"] == 2
    assert len(TOTALANVI.load(output, adata=ad.read_h5ad(h5ad)).predict()) == 20


def test_reading_that_takes_long_says_so(
    run: QuietRun, h5ad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("totalanvi.machine.still_going.still_going", partial(still_going, every=0.001))
    words = ("train", h5ad, "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "--no-readout")
    code, said = run(*words, "-o", tmp_path / "checkpoint")
    assert code == 0, said
    assert said.startswith("Reading the reference: ")
    assert "Reading" not in said.partition("20 cells (")[2]
    with at_a_terminal(monkeypatch) as shown:
        assert exit_code(*words, "-o", tmp_path / "again") == 0
    assert "20 cells (" in shown.text
    assert "so far" not in shown.text


def test_a_run_that_ends_early_says_so(run: QuietRun, h5ad: Path, tmp_path: Path) -> None:
    code, said = run("train", h5ad, "--labels", "kind", "--device", "cpu", "-o", tmp_path / "checkpoint")
    assert code == 0, said
    done = read_checkpoint(tmp_path / "checkpoint").training["n_epochs"]
    assert done < 400
    assert f" s, ended early after {done} of 400 epochs (" in said


def test_train_from_h5mu(run: QuietRun, tmp_path: Path) -> None:
    mdata = draw_mudata()
    mdata["rna"].obs["kind"] = ["B", "T", "unknown", "doublet"] * 4
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata["rna"].X = mdata["rna"].X * 0.5
    mdata.write_h5mu(tmp_path / "reference.h5mu")
    code, said = run(
        *("train", tmp_path / "reference.h5mu", "--labels", "kind", "--unlabeled", "unknown", "--unlabeled", "doublet"),
        *("--layer", "counts", "--max-epochs", 1, "--device", "cpu", "--output", tmp_path / "checkpoint"),
    )
    assert code == 0, said
    assert "16 cells (8 labelled, 2 types), 6 genes, 3 proteins, 1 batch" in said
    registry = read_checkpoint(tmp_path / "checkpoint").registry
    assert registry.unlabeled == ("unknown", "doublet")
    assert registry.setup["rna_layer"] == "counts"


def test_train_says_what_the_same_seed_gives(run: QuietRun, h5ad: Path, tmp_path: Path) -> None:
    for name in ("one", "again"):
        run("train", h5ad, "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", tmp_path / name)
    one, again = (read_checkpoint(tmp_path / name).weights for name in ("one", "again"))
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_train_with_panels_size_factors_and_covariates(run: QuietRun, tmp_path: Path) -> None:
    adata = draw_adata()
    adata.obs["kit"] = ["A", "B"] * 10
    adata.obs["depth"] = np.linspace(0.5, 2.0, 20)
    adata.obs["sex"], adata.obs["site"] = ["f", "m"] * 10, ["x", "x", "y", "y"] * 5
    adata.obs["age"], adata.obs["dose"] = np.linspace(-1, 1, 20), np.linspace(1, 0, 20)
    adata.write_h5ad(tmp_path / "reference.h5ad")
    code, said = run(
        *("train", tmp_path / "reference.h5ad", "--labels", "kind", "--batch", "donor", "--panel", "kit"),
        *("--size-factor", "depth", "--categorical-covariate", "sex", "--categorical-covariate", "site"),
        *("--continuous-covariate", "age", "--continuous-covariate", "dose"),
        *("--max-epochs", 1, "--device", "cpu", "-o", tmp_path / "checkpoint"),
    )
    assert code == 0, said
    registry = read_checkpoint(tmp_path / "checkpoint").registry
    assert registry.panels == ("A", "B")
    assert registry.has_size_factor
    assert registry.setup["size_factor_key"] == "depth"
    assert registry.categorical_covariates == (("sex", ("f", "m")), ("site", ("x", "y")))
    assert registry.continuous_covariates == ("age", "dose")


@pytest.mark.parametrize(("rna", "prot"), [("gex", "adt"), ("RNA", "Ab"), ("expression", "Protein")])
def test_modalities_by_other_names(run: QuietRun, tmp_path: Path, rna: str, prot: str) -> None:
    mdata = draw_mudata()
    with not_pulling():
        md.MuData({rna: mdata["rna"], prot: mdata["prot"]}).write_h5mu(tmp_path / "reference.h5mu")
    output = tmp_path / "checkpoint"
    code, said = run(
        "train", tmp_path / "reference.h5mu", "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", output
    )
    assert code == 0, said
    setup = read_checkpoint(output).registry.setup
    assert (setup["rna"], setup["proteins"]) == (rna, prot)


def test_train_overwrites_only_when_told_to(run: QuietRun, h5ad: Path, tmp_path: Path) -> None:
    output = tmp_path / "checkpoint"
    arguments = ("train", h5ad, "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", output)
    assert run(*arguments)[0] == 0
    before = (output / "model.safetensors").read_bytes()
    code, said = run(*arguments, "--seed", 1)
    assert (code, said) == (
        2,
        f"Error: Expected a folder that does not exist yet, found {output}; choose another, or overwrite it "
        "(overwrite=True; on the command line --overwrite).\n",
    )
    assert (output / "model.safetensors").read_bytes() == before
    assert run(*arguments, "--seed", 1, "--overwrite")[0] == 0
    assert (output / "model.safetensors").read_bytes() != before
