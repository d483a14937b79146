"""References in every format that queries come in, with counts in `X`, in a layer or in `raw`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pytest
from tests.support.command_line import exit_code
from tests.support.queries import mixed
from tests.support.reference_cells import draw_adata
from tests.support.stored_queries import FORMATS

from totalanvi.training.checkpoints.checkpoint import Checkpoint, read_checkpoint
from totalanvi.training.errors import CountsError, MissingKeyError, RegistrationError
from totalanvi.training.files import read_reference
from totalanvi.training.registration.counts_choice import with_counts


def train(path: Path, output: Path, *options: str) -> int:
    arguments = ("--labels", "kind", "--unlabeled", "unknown", "-o", output, "--max-epochs", 1)
    return exit_code("train", path, *arguments, *options)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What is trained on an .h5ad."""
    folder = tmp_path_factory.mktemp("expected")
    assert train(FORMATS["h5ad"](draw_adata(), folder), folder / "checkpoint") == 0
    return read_checkpoint(folder / "checkpoint")


def assert_same_weights(found: Checkpoint, expected: Checkpoint) -> None:
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], weights)


def rna_of(data: Any) -> ad.AnnData:
    return data.mod["rna"] if hasattr(data, "mod") else data


@pytest.mark.parametrize("kind", FORMATS)
def test_a_reference_is_read_from_any_format(kind: str, tmp_path: Path) -> None:
    adata = draw_adata()
    data = read_reference(FORMATS[kind](adata, tmp_path))
    np.testing.assert_array_equal(rna_of(data).X.toarray(), adata.X.toarray())
    assert list(rna_of(data).var_names) == list(adata.var_names)
    proteins = data.mod["prot"].X.toarray() if hasattr(data, "mod") else data.obsm["protein_expression"].to_numpy()
    np.testing.assert_array_equal(proteins, adata.obsm["protein_expression"])


@pytest.mark.parametrize("kind", ["h5mu", "zarr 2", "zarr 3", "zarr 3 of a MuData"])
def test_every_format_with_labels_trains_the_same_model(kind: str, expected: Checkpoint, tmp_path: Path) -> None:
    assert train(FORMATS[kind](draw_adata(), tmp_path), tmp_path / "found") == 0
    found = read_checkpoint(tmp_path / "found")
    assert found.registry.genes == expected.registry.genes
    assert found.registry.proteins == expected.registry.proteins
    assert_same_weights(found, expected)


@pytest.mark.parametrize("kind", ["h5ad", "h5mu", "zarr 3"])
@pytest.mark.parametrize("place", ["layer", "raw"])
def test_counts_are_found_where_they_are(kind: str, place: str, tmp_path: Path) -> None:
    adata = draw_adata()
    expected = adata.copy()
    if place == "layer":
        adata.layers["counts"] = adata.X.copy()
    else:
        adata.raw = adata.copy()
        adata = adata[:, :4].copy()
    adata.X = np.log1p(adata.X)
    assert train(FORMATS[kind](adata, tmp_path), tmp_path / "found") == 0
    sample = read_checkpoint(tmp_path / "found").sample
    assert sample is not None
    assert sample.landmarks.rna.shape[1] == expected.n_vars
    assert set(np.unique(sample.landmarks.rna.toarray())) <= set(np.unique(expected.X.toarray()))


def test_counts_in_two_places_have_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adata = draw_adata()
    adata.layers["corrected"] = adata.X * 2
    path = FORMATS["h5ad"](adata, tmp_path)
    assert train(path, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "X holds raw counts; layer 'corrected' holds raw counts. Name the one to read (--layer NAME)" in said
    assert not (tmp_path / "out").exists()
    assert train(path, tmp_path / "out", "--layer", "X") == 0


def test_named_places() -> None:
    adata = draw_adata()
    adata.layers["counts"] = adata.X * 2
    adata.raw = adata[:, :3].copy()
    assert with_counts(adata, "counts") == (adata, "counts")
    assert with_counts(adata, "X") == (adata, None)
    raw, layer = with_counts(adata, "raw")
    assert (raw.shape, layer) == ((20, 3), None)
    assert list(raw.obs) == list(adata.obs)
    assert "protein_expression" in raw.obsm
    with pytest.raises(MissingKeyError, match=r"mod\['rna'\]\.layers\['other'\], found the layers counts"):
        with_counts(adata, "other", "rna")
    with pytest.raises(CountsError, match=r"in exactly one place of modality 'rna'.*\(keep it in X alone\)"):
        with_counts(adata, None, "rna", "keep it in X alone")
    with pytest.raises(RegistrationError, match="found none of these"):
        with_counts(ad.AnnData(obs=adata.obs), None)


@pytest.mark.parametrize("place", ["X", "layer", "raw"])
def test_proteins_among_the_genes_are_told_apart(place: str, expected: Checkpoint, tmp_path: Path) -> None:
    adata = draw_adata()
    stored = mixed(adata)
    stored.X = stored.X.toarray()
    # The last gene has the name of a protein.
    stored.var_names = [*adata.var_names[:-1], "CD3", *adata.obsm["protein_expression"].columns]
    if place == "raw":
        stored.raw = stored.copy()
    elif place == "layer":
        stored.layers["counts"] = stored.X.copy()
    if place != "X":
        stored.X = np.log1p(stored.X)
    stored.write_h5ad(tmp_path / "mixed.h5ad")
    assert train(tmp_path / "mixed.h5ad", tmp_path / "found") == 0
    found = read_checkpoint(tmp_path / "found")
    assert found.registry.genes == (*expected.registry.genes[:-1], "CD3")
    assert found.registry.proteins == expected.registry.proteins
    assert_same_weights(found, expected)


def test_a_10x_matrix_has_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(FORMATS["10x h5"](draw_adata(), tmp_path), tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "Expected obs['kind']" in said
    assert "add this column (on the command line from a table, --obs)" in said


def test_a_reference_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    path = FORMATS["10x h5"](draw_adata(), tmp_path)
    with h5py.File(path, "r+") as file:
        file["matrix/other"] = h5py.ExternalLink("elsewhere.h5", "/")
    with pytest.raises(RegistrationError, match="a link into another file"):
        read_reference(path)
    store = FORMATS["zarr 3"](draw_adata(), tmp_path)
    (store / "link").symlink_to("/etc")
    with pytest.raises(RegistrationError, match="a link that leads out of it"):
        read_reference(store)
