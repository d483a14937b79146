"""`totalanvi simulate` and `totalanvi train`, run through the command line's own entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pytest
import torch
from tests.support.reference_cells import PROTEINS, draw_adata, draw_mudata, with_counts, with_names, with_obs

from totalanvi.serving.cli import main
from totalanvi.training import TOTALANVI
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.files import read_reference

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code and standard error; standard output stays empty."""

    def act(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert printed.out == ""
        return int(caught.value.code or 0), printed.err

    return act


@pytest.fixture
def h5ad(tmp_path: Path) -> Path:
    draw_adata().write_h5ad(tmp_path / "reference.h5ad")
    return tmp_path / "reference.h5ad"


# simulate

SIZES = ("--cells", 30, "--genes", 40, "--proteins", 3, "--labels", 2, "--batches", 2)


def test_simulate_writes_what_was_asked_for(run: Run, tmp_path: Path) -> None:
    for name in ("one", "again"):
        code, said = run("simulate", tmp_path / "folder" / f"{name}.h5mu", *SIZES, "--seed", 5)
        assert code == 0
        assert "30 cells × 40 genes × 3 proteins, 2 cell types" in said
        assert len(said.splitlines()) == 1
    with md.set_options(pull_on_update=False):
        one, again = (md.read_h5mu(tmp_path / "folder" / f"{name}.h5mu") for name in ("one", "again"))
    assert one["rna"].shape == (30, 40)
    assert one["prot"].shape == (30, 3)
    assert one.obs["cell_type"].nunique() == one.obs["batch"].nunique() == 2
    assert (one["rna"].X != again["rna"].X).nnz == 0
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == ["again.h5mu", "one.h5mu"]


def test_simulate_overwrites_only_when_told_to(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "cells.h5mu"
    target.write_text("mine")
    code, said = run("simulate", target, *SIZES)
    assert code == 2
    assert said == (
        f"Error: Expected an output that does not exist yet, found {target}; choose another, or overwrite it "
        "(--overwrite).\n"
    )
    assert target.read_text() == "mine"
    assert run("simulate", target, *SIZES, "--overwrite")[0] == 0
    assert md.read_h5mu(target).n_obs == 30


def test_simulate_writes_a_query_of_the_same_tissue(run: Run, tmp_path: Path) -> None:
    code, said = run("simulate", tmp_path / "reference.h5mu", "--query", tmp_path / "query.h5mu", *SIZES)
    assert code == 0, said
    with md.set_options(pull_on_update=False):
        reference, query = (md.read_h5mu(tmp_path / f"{name}.h5mu") for name in ("reference", "query"))
    assert list(query["rna"].var_names) == list(reference["rna"].var_names)
    assert list(query["prot"].var_names) == list(reference["prot"].var_names)
    assert set(query.obs["batch"]).isdisjoint(reference.obs["batch"])
    assert all("cell_type" not in part.obs for part in (query, query["rna"], query["prot"]))
    (unseen,) = set(query.obs["true_type"]) - set(reference.obs["cell_type"])
    assert f"Simulated 1000 cells to map, some of the unseen type {unseen}: {tmp_path / 'query.h5mu'}" in said
    assert query["prot"].n_obs == 700


def test_simulate_refuses_a_query_that_would_replace_something(run: Run, tmp_path: Path) -> None:
    code, said = run("simulate", tmp_path / "cells.h5mu", "--query", tmp_path / "cells.h5mu", *SIZES)
    assert code == 2
    assert said == (
        f"Error: Expected another file for the query than for the reference, found {tmp_path / 'cells.h5mu'} for both; "
        "name another.\n"
    )
    (tmp_path / "query.h5mu").write_text("mine")
    assert run("simulate", tmp_path / "cells.h5mu", "--query", tmp_path / "query.h5mu", *SIZES)[0] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["query.h5mu"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cells.h5ad", (), r"Expected an output that ends in .h5mu, found cells.h5ad; name it so"),
        ("cells.h5mu", ("--labels", 1), "n_labels: expected a whole number of at least 2, found 1"),
        ("cells.h5mu", ("--proteins", 50), "n_proteins: expected at most one for each of 40 genes, found 50"),
    ],
)
def test_simulations_that_cannot_be(
    run: Run, tmp_path: Path, name: str, options: tuple[object, ...], message: str
) -> None:
    code, said = run("simulate", tmp_path / name, *SIZES, *options)
    assert code == 2
    assert message in said
    assert not list(tmp_path.iterdir())


def test_simulating_where_nothing_can_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.h5mu").mkdir()
    for target, message in (
        (tmp_path / "file" / "cells.h5mu", f"found {tmp_path / 'file'}, which is a file; choose another place"),
        (tmp_path / "folder.h5mu", "Expected the name of a file to write, found"),
        (Path("/dev/fd/cells.h5mu"), "Expected a place where /dev/fd/cells.h5mu can be written, found one where"),
    ):
        code, said = run("simulate", target, *SIZES, "--overwrite")
        assert code == 2
        assert message in said
        assert len(said.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.h5mu"]


def test_more_cells_than_memory_holds(run: Run, tmp_path: Path) -> None:
    code, said = run("simulate", tmp_path / "cells.h5mu", "--genes", 10**14)
    assert code == 2
    assert said.startswith("Error: Expected memory enough for this, found too little (Unable to allocate")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


# train


def test_train_from_h5ad(run: Run, h5ad: Path, tmp_path: Path) -> None:
    output = tmp_path / "folder" / "checkpoint"
    code, said = run(
        *("train", h5ad, "--labels", "kind", "--unlabeled", "unknown", "--batch", "donor"),
        *("--max-epochs", 2, "--seed", 3, "--device", "cpu", "-o", output),
    )
    assert code == 0, said
    assert "20 cells (15 labelled, 2 types), 6 genes, 3 proteins, 2 batches" in said
    assert "validation accuracy" in said
    assert str(output) in said
    checkpoint = read_checkpoint(output)
    assert checkpoint.kind == "TOTALANVI"
    assert checkpoint.registry.labels == ("B", "T")
    assert checkpoint.registry.batches == ("one", "two")
    assert checkpoint.training["options"]["seed"] == 3
    assert checkpoint.training["n_epochs"] == 2
    assert len(TOTALANVI.load(output, adata=ad.read_h5ad(h5ad)).predict()) == 20


def test_a_run_that_ends_early_says_so(run: Run, h5ad: Path, tmp_path: Path) -> None:
    code, said = run("train", h5ad, "--labels", "kind", "--device", "cpu", "-o", tmp_path / "checkpoint")
    assert code == 0, said
    done = read_checkpoint(tmp_path / "checkpoint").training["n_epochs"]
    assert done < 400
    assert f" s, ended early after {done} of 400 epochs (" in said


def test_train_from_h5mu(run: Run, tmp_path: Path) -> None:
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


def test_train_says_what_the_same_seed_gives(run: Run, h5ad: Path, tmp_path: Path) -> None:
    for name in ("one", "again"):
        run("train", h5ad, "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", tmp_path / name)
    one, again = (read_checkpoint(tmp_path / name).weights for name in ("one", "again"))
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_train_with_panels_size_factors_and_covariates(run: Run, tmp_path: Path) -> None:
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
def test_modalities_by_other_names(run: Run, tmp_path: Path, rna: str, prot: str) -> None:
    mdata = draw_mudata()
    with md.set_options(pull_on_update=False):
        md.MuData({rna: mdata["rna"], prot: mdata["prot"]}).write_h5mu(tmp_path / "reference.h5mu")
    output = tmp_path / "checkpoint"
    code, said = run(
        "train", tmp_path / "reference.h5mu", "--labels", "kind", "--max-epochs", 1, "--device", "cpu", "-o", output
    )
    assert code == 0, said
    setup = read_checkpoint(output).registry.setup
    assert (setup["rna"], setup["proteins"]) == (rna, prot)


def test_train_overwrites_only_when_told_to(run: Run, h5ad: Path, tmp_path: Path) -> None:
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


# What is refused, before anything is trained and without anything left behind


def refused(run: Run, tmp_path: Path, reference: Path, *options: object) -> str:
    """What the command line says: one message, exit code 2, nothing written."""
    before = sorted(tmp_path.iterdir())
    code, said = run("train", reference, "--device", "cpu", "--max-epochs", 1, "-o", tmp_path / "checkpoint", *options)
    assert code == 2, said
    assert sorted(tmp_path.iterdir()) == before
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    return errors[0]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, ("--labels", "type"), "Expected obs['type'], found the keys kind, donor; name one of them"),
        (None, ("--labels", "kind", "--batch", "lane"), "Expected obs['lane'], found the keys kind, donor; name one"),
        (None, ("--labels", "kind", "--panel", "kit"), "Expected obs['kit'], found the keys kind, donor; name one"),
        (
            None,
            ("--labels", "kind", "--continuous-covariate", "age"),
            "Expected obs['age'], found the keys kind, donor",
        ),
        (None, ("--labels", "kind", "--layer", "counts"), "Expected counts in layers['counts'], found the layers none"),
        (None, ("--labels", "kind", "--proteins", "adt"), "Expected obsm['adt'], found the keys protein_expression"),
        (None, ("--labels", "donor", "--unlabeled", "one"), "of two types or more in obs['donor'], found only 'two'"),
        (
            None,
            ("--labels", "donor", "--unlabeled", "one", "--unlabeled", "two"),
            "found no labelled cell (not counting one, two); name another column",
        ),
        (
            lambda a: with_counts(a, 0.5),
            ("--labels", "kind"),
            "Expected raw counts (whole numbers, 0 or more) in X, found",
        ),
        (lambda a: with_counts(a, -1), ("--labels", "kind"), "found -1 for feature 'GENE2' in cell 'cell3'"),
        (lambda a: with_counts(a, np.nan), ("--labels", "kind"), "found nan for feature 'GENE2' in cell 'cell3'"),
        (lambda a: with_names(a, var="GENE0"), ("--labels", "kind"), "Expected unique gene names, found repeated ones"),
        (lambda a: a[:0].copy(), ("--labels", "kind"), "found 0 cells and 6 genes"),
        (lambda a: with_obs(a, kind=np.nan), ("--labels", "kind"), "found no labelled cell"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_references_that_are_refused(
    run: Run, tmp_path: Path, change: Callable[[Any], Any] | None, options: tuple[str, ...], message: str
) -> None:
    adata = draw_adata() if change is None else change(draw_adata())
    adata.write_h5ad(tmp_path / "reference.h5ad")
    assert message in refused(run, tmp_path, tmp_path / "reference.h5ad", *options)


def test_a_reference_without_proteins(run: Run, tmp_path: Path) -> None:
    adata = draw_adata()
    del adata.obsm[PROTEINS]
    adata.write_h5ad(tmp_path / "reference.h5ad")
    said = refused(run, tmp_path, tmp_path / "reference.h5ad", "--labels", "kind")
    assert "Expected obsm['protein_expression'], found the keys none; name one of them" in said


def test_modalities_that_cannot_be_told(run: Run, tmp_path: Path) -> None:
    mdata = draw_mudata()
    for parts, options, message in (
        ({"rna": mdata["rna"], "x": mdata["prot"]}, (), "Expected a protein modality, found rna, x; say which it is"),
        (
            {"a": mdata["rna"], "b": mdata["rna"].copy(), "prot": mdata["prot"]},
            (),
            "Expected an RNA modality, found a, b, prot; say which it is",
        ),
        (
            {"rna": mdata["rna"], "prot": mdata["prot"]},
            ("--proteins", "adt"),
            "Expected a modality 'adt', found rna, prot",
        ),
    ):
        with md.set_options(pull_on_update=False):
            md.MuData(parts).write_h5mu(tmp_path / "reference.h5mu")
        assert message in refused(run, tmp_path, tmp_path / "reference.h5mu", "--labels", "kind", *options)


@pytest.mark.parametrize("suffix", [".h5ad", ".h5mu"])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "another"])
def test_files_that_cannot_be_read(run: Run, tmp_path: Path, h5ad: Path, suffix: str, kind: str) -> None:
    file = tmp_path / f"broken{suffix}"
    messages = {
        "missing": f"found nothing at '{file}'. Check the path",
        "empty": f"found that '{file}' is none",
        "text": f"found that '{file}' is none",
        "truncated": f"found that '{file}' is truncated or damaged",
        "another": f"in '{file}'; found 'x'",
    }
    if kind == "another":
        import h5py

        with h5py.File(file, "w") as written:
            written["x"] = [1, 2, 3]
    elif kind == "truncated":
        content = h5ad.read_bytes()
        if suffix == ".h5mu":
            draw_mudata().write_h5mu(file)
            content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    elif kind != "missing":
        file.write_text("" if kind == "empty" else "cells,genes\n")
    assert messages[kind] in refused(run, tmp_path, file, "--labels", "kind")


def test_a_folder_of_no_cells(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cells.h5ad"
    folder.mkdir()
    said = refused(run, tmp_path, folder, "--labels", "kind")
    assert f"found that {str(folder)!r} is a folder of neither kind, which holds nothing" in said


def test_a_file_is_what_it_holds_whatever_its_suffix(tmp_path: Path, h5ad: Path) -> None:
    of_anndata, of_mudata = tmp_path / "a.h5mu", tmp_path / "b.h5ad"
    of_anndata.write_bytes(h5ad.read_bytes())
    draw_mudata().write_h5mu(tmp_path / "b.h5mu")
    (tmp_path / "b.h5mu").rename(of_mudata)
    assert isinstance(read_reference(of_anndata), ad.AnnData)
    assert isinstance(read_reference(of_mudata), md.MuData)


def test_a_file_of_another_kind(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("a,b\n")
    said = refused(run, tmp_path, tmp_path / "cells.csv", "--labels", "kind")
    assert "Expected an HDF5 file (.h5ad, .h5mu or 10x .h5); found that" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'"),
        pytest.param(
            ("--device", "cuda"),
            "device: expected one that is here, found cuda:0, which is not; use 'cpu', or 'auto'",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (("--max-epochs", 0), "max-epochs"),
        (("--seed", -1), "seed: expected a whole number of at least 0 "),
    ],
)
def test_options_that_make_no_sense(
    run: Run, tmp_path: Path, h5ad: Path, options: tuple[object, ...], message: str
) -> None:
    assert message in refused(run, tmp_path, h5ad, "--labels", "kind", *options)


def test_a_file_of_another_program_is_left_alone(run: Run, tmp_path: Path, h5ad: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text('{"hidden_size": 768}')
    said = refused(run, tmp_path, h5ad, "--labels", "kind", "--overwrite")
    assert "expected files of a checkpoint to replace, found config.json of something else" in said
    assert (tmp_path / "checkpoint" / "config.json").read_text() == '{"hidden_size": 768}'


def test_labels_are_asked_for(run: Run, tmp_path: Path, h5ad: Path) -> None:
    code, said = run("train", h5ad, "-o", tmp_path / "checkpoint")
    assert code == 2
    assert "--labels" in said
