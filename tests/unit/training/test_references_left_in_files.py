"""References that stay in their file: opened from the command line, and told from what has to be read whole."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.support.command_line import QuietRun
from tests.support.reference_cells import draw_adata
from tests.support.stored_queries import FORMATS

from totalanvi.formats.errors import FormatError
from totalanvi.formats.stored_objects import bytes_of_counts, open_object
from totalanvi.training import files
from totalanvi.training.checkpoints.checkpoint import read_checkpoint
from totalanvi.training.errors import RegistrationError
from totalanvi.training.files import is_large, read_reference
from totalanvi.training.registration.stored_rows import is_stored

STORED = [kind for kind in FORMATS if not kind.startswith("10x")]
COLUMNS = ("--labels", "kind", "--unlabeled", "unknown", "--max-epochs", 1, "--device", "cpu", "--no-readout")
LEFT = "Counts stay in their file"


@pytest.mark.parametrize("kind", STORED)
def test_counts_are_left_where_they_are(kind: str, tmp_path: Path) -> None:
    adata = draw_adata()
    path = FORMATS[kind](adata, tmp_path)
    data = read_reference(path, backed=True)
    rna = data.mod["rna"] if hasattr(data, "mod") else data
    assert is_stored(rna.X)
    np.testing.assert_array_equal(rna.X[3:7].toarray(), adata.X[3:7].toarray())
    assert rna.obs["kind"].tolist() == adata.obs["kind"].tolist()
    assert bytes_of_counts(path) >= 8 * adata.X.nnz


def test_every_part_of_an_object_is_there(tmp_path: Path) -> None:
    adata = draw_adata()
    adata.raw = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.toarray() / 2
    adata.obs["depth"] = np.arange(20)
    adata.obsm["pca"] = np.ones((20, 2))
    umap = pd.DataFrame({"x": np.arange(20), "y": np.linspace(-1, 70_000, 20)}, index=adata.obs_names)
    adata.obsm["umap"] = umap
    adata.write_h5ad(tmp_path / "reference.h5ad")
    opened = open_object(tmp_path / "reference.h5ad")
    assert all(is_stored(part) for part in (opened.X, opened.layers["counts"], opened.raw.X, opened.obsm["pca"]))
    for name, values in (("protein_expression", adata.obsm["protein_expression"]), ("umap", umap)):
        pd.testing.assert_frame_equal(opened.obsm[name], values, check_names=False, check_dtype=False)
    assert opened.obsm["protein_expression"].dtypes.unique().tolist() == [np.uint16]
    assert opened.obs["depth"].dtype == adata.obs["depth"].dtype
    assert bytes_of_counts(tmp_path / "reference.h5ad") == 20 * 6 * 4 + 2 * 8 * adata.raw.X.nnz


def test_what_has_to_be_read_whole(tmp_path: Path) -> None:
    for kind in FORMATS:
        if kind.startswith("10x"):
            (tmp_path / kind).mkdir()
            path = FORMATS[kind](draw_adata(), tmp_path / kind)
            assert bytes_of_counts(path) is None
            with pytest.raises(RegistrationError, match=r"read by rows.* found the 10x matrix .*--no-backed"):
                read_reference(path, backed=True)
    adata = draw_adata()
    adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "columns.h5ad")
    assert bytes_of_counts(tmp_path / "columns.h5ad") is None


def test_a_file_that_reaches_outside_is_not_opened(tmp_path: Path) -> None:
    path = FORMATS["h5ad"](draw_adata(), tmp_path)
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/X")
    for opened in (open_object, bytes_of_counts):
        with pytest.raises(FormatError, match="a link into another file"):
            opened(path)
    with h5py.File(path, "r+"):  # nothing holds it open
        pass


def test_large_files_are_left_alone_by_themselves(
    run: QuietRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = FORMATS["h5ad"](draw_adata(), tmp_path)
    assert not is_large(path)
    monkeypatch.setattr(files, "bytes_of_memory", lambda: 4 * bytes_of_counts(path) - 1)
    assert is_large(path)
    checkpoints = []
    for options, left in (((), True), (("--no-backed",), False), (("--backed",), False)):
        output = tmp_path / f"checkpoint{len(checkpoints)}"
        code, said = run("train", path, *COLUMNS, "-o", output, *options)
        assert code == 0, said
        assert (LEFT in said) == left
        checkpoints.append(read_checkpoint(output))
    digests = {checkpoint.training["data_digest"] for checkpoint in checkpoints}
    assert len(digests) == 1
    for name, weight in checkpoints[0].weights.items():
        np.testing.assert_array_equal(weight, checkpoints[2].weights[name])


@pytest.mark.parametrize("place", ["layer", "raw"])
def test_counts_are_found_in_a_file(run: QuietRun, tmp_path: Path, place: str) -> None:
    adata = draw_adata()
    if place == "raw":
        adata.raw = adata.copy()
    else:
        adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(adata.X * 0.5)
    adata.write_h5ad(tmp_path / "reference.h5ad")
    code, said = run("train", tmp_path / "reference.h5ad", *COLUMNS, "--backed", "-o", tmp_path / "checkpoint")
    assert code == 0, said
    counts = read_checkpoint(tmp_path / "checkpoint").sample.landmarks.rna
    assert counts.sum() > 0
    assert (counts.data == np.floor(counts.data)).all()


def test_genes_beside_proteins_are_refused_in_a_file(run: QuietRun, tmp_path: Path) -> None:
    adata = draw_adata()
    adata.var["feature_types"] = ["Gene Expression"] * 4 + ["Antibody Capture"] * 2
    adata.write_h5ad(tmp_path / "reference.h5ad")
    code, said = run("train", tmp_path / "reference.h5ad", *COLUMNS, "--backed", "-o", tmp_path / "checkpoint")
    assert code == 2
    assert "features of several kinds" in said
    assert "--no-backed" in said


def test_a_file_by_columns_is_refused_when_it_is_to_stay(run: QuietRun, tmp_path: Path) -> None:
    adata = draw_adata()
    adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "reference.h5ad")
    code, said = run("train", tmp_path / "reference.h5ad", *COLUMNS, "--backed", "-o", tmp_path / "checkpoint")
    assert code == 2
    assert "by columns (CSC)" in said
    code, said = run("train", tmp_path / "reference.h5ad", *COLUMNS, "-o", tmp_path / "checkpoint")
    assert code == 0, said
