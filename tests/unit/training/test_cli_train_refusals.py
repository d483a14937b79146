"""What `totalanvi train` refuses, before anything is trained and without anything left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pytest
import torch
from tests.support.command_line import QuietRun
from tests.support.reference_cells import PROTEINS, draw_adata, draw_mudata, with_counts, with_names, with_obs

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training.files import read_reference


@pytest.fixture
def h5ad(tmp_path: Path) -> Path:
    draw_adata().write_h5ad(tmp_path / "reference.h5ad")
    return tmp_path / "reference.h5ad"


def refused(run: QuietRun, tmp_path: Path, reference: Path, *options: object) -> str:
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
        (
            None,
            ("--labels", "kind", "--layer", "counts"),
            "Expected counts in layers['counts'], found no layers; add this one",
        ),
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
    run: QuietRun, tmp_path: Path, change: Callable[[Any], Any] | None, options: tuple[str, ...], message: str
) -> None:
    adata = draw_adata() if change is None else change(draw_adata())
    adata.write_h5ad(tmp_path / "reference.h5ad")
    assert message in refused(run, tmp_path, tmp_path / "reference.h5ad", *options)


def test_a_reference_without_proteins(run: QuietRun, tmp_path: Path) -> None:
    adata = draw_adata()
    del adata.obsm[PROTEINS]
    adata.write_h5ad(tmp_path / "reference.h5ad")
    said = refused(run, tmp_path, tmp_path / "reference.h5ad", "--labels", "kind")
    assert "Expected obsm['protein_expression'], found the keys none; name one of them" in said


def test_modalities_that_cannot_be_told(run: QuietRun, tmp_path: Path) -> None:
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
        with not_pulling():
            md.MuData(parts).write_h5mu(tmp_path / "reference.h5mu")
        assert message in refused(run, tmp_path, tmp_path / "reference.h5mu", "--labels", "kind", *options)


@pytest.mark.parametrize("suffix", [".h5ad", ".h5mu"])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "another"])
def test_files_that_cannot_be_read(run: QuietRun, tmp_path: Path, h5ad: Path, suffix: str, kind: str) -> None:
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


def test_a_folder_of_no_cells(run: QuietRun, tmp_path: Path) -> None:
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


def test_a_file_of_another_kind(run: QuietRun, tmp_path: Path) -> None:
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
    run: QuietRun, tmp_path: Path, h5ad: Path, options: tuple[object, ...], message: str
) -> None:
    assert message in refused(run, tmp_path, h5ad, "--labels", "kind", *options)


def test_a_file_of_another_program_is_left_alone(run: QuietRun, tmp_path: Path, h5ad: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text('{"hidden_size": 768}')
    said = refused(run, tmp_path, h5ad, "--labels", "kind", "--overwrite")
    assert "expected files of a checkpoint to replace, found config.json of something else" in said
    assert (tmp_path / "checkpoint" / "config.json").read_text() == '{"hidden_size": 768}'


def test_labels_are_asked_for(run: QuietRun, tmp_path: Path, h5ad: Path) -> None:
    code, said = run("train", h5ad, "-o", tmp_path / "checkpoint")
    assert code == 2
    assert "--labels" in said
