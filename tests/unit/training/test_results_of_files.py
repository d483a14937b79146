"""What models say of cells that stay in a file is what they say of the same cells in memory."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from tests.support.reference_cells import FAST, draw_adata, set_up

from totalanvi.training import TOTALANVI
from totalanvi.training.errors import ArgumentError, RegistrationError
from totalanvi.training.results.differential.statistics import RawCounts

N_CELLS = 100


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> ad.AnnData:
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    draw_adata(N_CELLS).write_h5ad(path)
    adata = ad.read_h5ad(path, backed="r")
    set_up(adata)
    return adata


@pytest.fixture(scope="module")
def of_file(stored: ad.AnnData) -> TOTALANVI:
    """A model whose data stays in a file. Not to be changed."""
    model = TOTALANVI(stored, n_latent=3, n_hidden=8)
    model.train(max_epochs=1, **FAST)
    model.fit_readout()
    return model


@pytest.fixture(scope="module")
def of_memory(of_file: TOTALANVI, tmp_path_factory: pytest.TempPathFactory) -> TOTALANVI:
    """The same model with its data in memory. Not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    of_file.save(folder)
    return TOTALANVI.load(folder, adata=draw_adata(N_CELLS))


def test_latent_and_labels(of_file: TOTALANVI, of_memory: TOTALANVI) -> None:
    some = [70, 3, 55]
    for indices in (None, some):
        latent = of_memory.get_latent_representation(indices=indices)
        np.testing.assert_array_equal(of_file.get_latent_representation(indices=indices), latent)
        for options in ({}, {"use_readout": True}):
            expected = of_memory.predict(soft=True, indices=indices, **options)
            pd.testing.assert_frame_equal(of_file.predict(soft=True, indices=indices, **options), expected)


def test_what_is_drawn(of_file: TOTALANVI, of_memory: TOTALANVI) -> None:
    answers = []
    for model in (of_file, of_memory):
        torch.manual_seed(0)
        rna, protein = model.get_normalized_expression(n_samples=2)
        answers.append((rna, protein, model.get_elbo(), model.get_marginal_ll(n_mc_samples=4)))
    (rna, protein, *numbers), expected = answers
    pd.testing.assert_frame_equal(rna, expected[0])
    pd.testing.assert_frame_equal(protein, expected[1])
    np.testing.assert_array_equal(numbers, expected[2:])


def test_raw_counts_of_groups(of_file: TOTALANVI, of_memory: TOTALANVI) -> None:
    group = np.arange(N_CELLS) % 3 == 1
    found, expected = (RawCounts(model._reference_cells()) for model in (of_file, of_memory))
    np.testing.assert_allclose(found.mean_of_genes(group), expected.mean_of_genes(group), rtol=1e-12)
    for name, values in expected.genes(group)._asdict().items():
        np.testing.assert_allclose(getattr(found.genes(group), name), values, rtol=1e-12)


def test_a_sample_travels_with_the_checkpoint(of_file: TOTALANVI) -> None:
    sample, memory = of_file._sample(), draw_adata(N_CELLS).X
    assert sample is not None
    np.testing.assert_array_equal(sample.held_out.rna.toarray(), memory[of_file.validation_indices].toarray())


def test_a_query_in_a_file_is_mapped_with_training(of_file: TOTALANVI, stored: ad.AnnData) -> None:
    adapted = TOTALANVI.load_query_data(stored, of_file)
    assert len(adapted.predict()) == N_CELLS
    with pytest.raises(RegistrationError, match=r"Expected a query in memory.* lie in a file; read it first"):
        TOTALANVI.prepare_query_anndata(stored, of_file)


def test_data_of_a_file_is_not_written_again(of_file: TOTALANVI, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"save_anndata: expected data in memory.* lie in a file already"):
        of_file.save(tmp_path / "checkpoint", save_anndata=True)
    assert not (tmp_path / "checkpoint").exists()


def test_genes_are_matched_by_name(of_file: TOTALANVI, of_memory: TOTALANVI, tmp_path: Path) -> None:
    turned = draw_adata(N_CELLS)[:, ::-1].copy()
    turned.write_h5ad(tmp_path / "turned.h5ad")
    backed = ad.read_h5ad(tmp_path / "turned.h5ad", backed="r")
    expected = of_memory.get_latent_representation()
    np.testing.assert_array_equal(of_file.get_latent_representation(backed), expected)
    of_file_turned = of_file._read(backed)
    np.testing.assert_array_equal(of_file_turned.library, of_file._reference_cells().library)
    np.testing.assert_array_equal(of_file_turned.rna.indptr, of_memory._reference_cells().rna.indptr)
