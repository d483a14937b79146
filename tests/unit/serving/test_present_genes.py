"""A gene that a query lacks is unknown, not absent: from alignment over the wire into the readout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from totalanvi.export.reference_cells import aligned
from totalanvi.export.source import read_source
from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.missing_genes import MissingGenes
from totalanvi.serving.errors import QueryError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.chunks import ChunkRequest, decode_request, encode_request
from totalanvi.serving.wire.present import decode_present, encode_present


@pytest.fixture(scope="module")
def reference(bundle: Path) -> LocalReference:
    return LocalReference(bundle)


def cells(n_genes: int, n_proteins: int, n_cells: int = 20) -> AlignedCells:
    rna = np.random.default_rng(0).poisson(1.0, (n_cells, n_genes)).astype(np.float32)
    none = np.zeros((n_cells, n_proteins), dtype=np.float32)
    return AlignedCells(sparse.csr_matrix(rna), rna.sum(axis=1), none, none.astype(bool))


def test_alignment_says_which_genes_there_are(reference: LocalReference) -> None:
    features = reference.features
    kept = features.genes[5:][::-1]
    present = Aligner(features, ["MALAT99", *kept]).present
    assert present.tolist() == [False] * 5 + [True] * (len(features.genes) - 5)


@pytest.mark.parametrize("n_genes", [1, 7, 8, 9, 160])
def test_a_mask_survives_the_wire(n_genes: int) -> None:
    present = np.random.default_rng(n_genes).random(n_genes) < 0.5
    assert np.array_equal(decode_present(encode_present(present), n_genes), present)
    part = replace(cells(n_genes, 2), present=present)
    body = encode_request(ChunkRequest("digest", MapOptions(), part))
    found = decode_request(body, features="digest", n_genes=n_genes, n_proteins=2, max_cells=100).cells
    assert np.array_equal(found.present, present)


@pytest.mark.parametrize("text", ["", "oA", "oA==oA==", "AAAA", "/w==", 3, ["oA=="], "ü"])
def test_what_is_no_mask_is_refused(text: object) -> None:
    with pytest.raises(QueryError, match="a bit for each of 3 genes"):
        decode_present(text, 3)


def test_the_readout_is_told_which_genes_there_are(bundle: Path, checkpoint: Path) -> None:
    source = read_source(checkpoint)
    whole = aligned(source.sample.held_out, with_proteins=False)
    present = np.arange(whole.n_genes) % 4 != 0
    rna = sparse.csr_matrix(whole.rna.multiply(present), dtype=np.float32)
    part = AlignedCells(rna, whole.library, whole.protein, whole.measured, present)
    found = Engine(Bundle.open(bundle), provider="cpu").score(part, MapOptions(impute=False))
    inputs = (rna.toarray(), whole.library[:, None], whole.protein, whole.measured.astype(np.float32))
    assert source.readout is not None
    network, missing_genes = source.readout.network, MissingGenes.of(Bundle.open(bundle))
    assert missing_genes is not None
    fill = missing_genes.fill(present)
    assert fill.any()
    with torch.no_grad():
        of_query = torch.from_numpy(present[None]).float(), torch.from_numpy(fill)
        log_probabilities = network(*map(torch.from_numpy, inputs), *of_query)[0]
    np.testing.assert_allclose(found.logits, log_probabilities.numpy(), rtol=1e-4, atol=1e-4)
