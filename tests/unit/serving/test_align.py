"""Alignment: which feature is which, what the report says, and when a query is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import sparse
from tests.support.queries import refusal
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.align import Aligner, AlignmentReport
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.manifest import Thresholds
from totalanvi.serving.query import Query
from totalanvi.serving.readers import open_query

REFERENCE = ReferenceFeatures(
    genes=("CD3E", "MS4A1", "NKG7", "LYZ"),
    ensembl_ids=("ENSG00000198851", "ENSG00000156738", "ENSG00000105374", None),
    proteins=("CD3", "CD19", "HLA-DR"),
    labels=("T", "B"),
    gene_share=(0.5, 0.25, 0.15, 0.1),
)


def make_query(
    rna: list[list[float]], genes: list[str], proteins: list[list[float]] | None = None, names: tuple[str, ...] = ()
) -> Query:
    counts = np.array(rna, dtype=np.float32)
    n_cells = len(counts)
    protein = np.zeros((n_cells, 0)) if proteins is None else np.array(proteins)
    return Query(
        cell_ids=pd.Index([f"c{i}" for i in range(n_cells)]),
        gene_names=tuple(genes),
        rna=sparse.csr_matrix(counts),
        rna_measured=np.ones(n_cells, dtype=bool),
        protein_names=names,
        proteins=protein.astype(np.float32),
        protein_measured=protein.any(axis=1),
    )


def test_columns_move_to_the_order_of_the_model() -> None:
    query = make_query([[1, 2, 3, 4], [0, 0, 5, 0]], ["LYZ", "MALAT1", "CD3E", "NKG7"])
    aligner = Aligner(REFERENCE, query.gene_names)
    cells = aligner.align(query)
    np.testing.assert_array_equal(cells.rna.toarray(), [[3, 0, 4, 1], [5, 0, 0, 0]])
    assert cells.rna.has_sorted_indices
    assert aligner.report.gene_coverage == pytest.approx(0.75)
    np.testing.assert_allclose(cells.library, np.array([8, 5]) / 0.75, rtol=1e-6)
    assert not cells.measured.any()
    assert cells.protein.shape == (2, 3)


def test_the_report_counts_and_lists() -> None:
    aligner = Aligner(REFERENCE, ["LYZ", "MALAT1", "CD3E"], ["cd19", "CD8"])
    report = aligner.report
    assert (report.genes.matched, report.genes.missing, report.genes.extra) == (2, 2, 1)
    assert report.genes.missing_names == ("MS4A1", "NKG7")
    assert report.genes.extra_names == ("MALAT1",)
    assert (report.proteins.matched, report.proteins.missing, report.proteins.extra) == (1, 2, 1)
    assert report.matched_by == "symbol"
    assert AlignmentReport.model_validate(json.loads(report.model_dump_json())) == report


def test_lists_are_short_and_begin_with_what_matters_most() -> None:
    share = np.arange(1, 101) / 5050
    reference = ReferenceFeatures(
        genes=tuple(f"G{i}" for i in range(100)), labels=("a", "b"), gene_share=tuple(share.tolist())
    )
    report = Aligner(reference, [f"G{i}" for i in range(80, 100)] + [f"X{i}" for i in range(50)]).report.genes
    assert (report.missing, report.extra) == (80, 50)
    assert report.missing_names == tuple(f"G{i}" for i in range(79, 59, -1))
    assert report.extra_names == tuple(f"X{i}" for i in range(20))


# Names


@pytest.mark.parametrize("suffix", ["", ".4"])
def test_ensembl_ids_match_whatever_their_version(suffix: str) -> None:
    ids = [f"{known}{suffix}" for known in REFERENCE.ensembl_ids or () if known]
    query = make_query([[1, 2, 3]], ids)
    aligner = Aligner(REFERENCE, query.gene_names)
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[1, 2, 3, 0]])
    assert aligner.report.matched_by == "ensembl"
    assert aligner.report.gene_coverage == pytest.approx(0.9)


def test_a_reference_named_by_ensembl_ids_takes_them_with_any_version() -> None:
    reference = REFERENCE.model_copy(
        update={"genes": ("ENSG00000198851.7", "ENSG00000156738.1", "NKG7", "LYZ"), "ensembl_ids": None}
    )
    query = make_query([[1, 2]], ["ENSG00000156738", "ENSG00000198851.9"])
    np.testing.assert_array_equal(Aligner(reference, query.gene_names).align(query).rna.toarray(), [[2, 1, 0, 0]])


def test_the_naming_that_covers_more_is_taken() -> None:
    names = ["CD3E", "ENSG00000156738", "ENSG00000105374"]
    assert Aligner(REFERENCE, names).report.matched_by == "symbol"
    assert Aligner(REFERENCE, ["LYZ", *names[1:]]).report.matched_by == "ensembl"


def test_versions_of_one_id_are_refused() -> None:
    names = ["ENSG00000198851.1", "ENSG00000198851.2", "ENSG00000156738"]
    refusal(AlignmentError, lambda: Aligner(REFERENCE, names), "gene", "'ENSG00000198851.1'", "sum their counts")


def test_proteins_match_whatever_their_case() -> None:
    query = make_query([[1], [2]], ["CD3E"], [[7, 8, 9], [0, 0, 0]], ("hla-dr", "other", "cd3"))
    cells = Aligner(REFERENCE, query.gene_names, query.protein_names).align(query)
    np.testing.assert_array_equal(cells.protein, [[9, 0, 7], [0, 0, 0]])
    np.testing.assert_array_equal(cells.measured, [[True, False, True], [False, False, False]])


def test_proteins_that_differ_in_case_only_are_refused() -> None:
    refusal(AlignmentError, lambda: Aligner(REFERENCE, ["CD3E"], ["CD3", "cd3"]), "protein", "'CD3', 'cd3'", "Keep one")


def test_a_cell_whose_panel_was_read_has_zeros_where_nothing_bound() -> None:
    query = make_query([[1], [1]], ["CD3E"], [[5, 0], [5, 1]], ("CD8", "CD19"))
    cells = Aligner(REFERENCE, query.gene_names, query.protein_names).align(query)
    np.testing.assert_array_equal(cells.has_protein, [True, True])
    np.testing.assert_array_equal(cells.protein, [[0, 0, 0], [0, 1, 0]])
    unknown = make_query([[1]], ["CD3E"], [[5]], ("CD8",))
    assert not Aligner(REFERENCE, unknown.gene_names, unknown.protein_names).align(unknown).has_protein.any()


# Enough in common


def test_no_gene_in_common_is_refused() -> None:
    message = refusal(AlignmentError, lambda: Aligner(REFERENCE, ["Cd3e", "Ms4a1"]), "no gene in common", "'CD3E'")
    assert "'Cd3e'" in message
    assert "symbol or Ensembl id" in message
    refusal(AlignmentError, lambda: Aligner(REFERENCE.model_copy(update={"ensembl_ids": None}), ["x"]), "by symbol as")


def test_too_few_genes_in_common_are_refused() -> None:
    message = refusal(AlignmentError, lambda: Aligner(REFERENCE, ["NKG7"]), "at least 20%", "too few in common")
    assert "1 of 4 genes" in message
    assert "15.0%" in message
    assert "'CD3E', 'MS4A1', 'LYZ'" in message


def test_little_in_common_is_warned_of() -> None:
    assert Aligner(REFERENCE, ["CD3E", "MS4A1", "LYZ"]).report.warnings == ()
    (warning,) = Aligner(REFERENCE, ["CD3E"]).report.warnings
    assert "50.0%" in warning
    assert "80%" in warning


def test_the_reference_sets_the_thresholds() -> None:
    strict = REFERENCE.model_copy(update={"thresholds": Thresholds(gene_coverage_warn=0.99, gene_coverage_refuse=0.6)})
    refusal(AlignmentError, lambda: Aligner(strict, ["CD3E"]), "at least 60%")
    assert len(Aligner(strict, ["CD3E", "MS4A1"]).report.warnings) == 1
    lax = REFERENCE.model_copy(
        update={"thresholds": Thresholds(gene_coverage_warn=0, gene_coverage_refuse=0), "gene_share": (1, 0, 0, 0)}
    )
    refusal(AlignmentError, lambda: Aligner(lax, ["LYZ"]), "too few in common", "0.0%")


def test_unknown_proteins_are_warned_of() -> None:
    (warning,) = Aligner(REFERENCE, REFERENCE.genes, ["CD8", "CD4"]).report.warnings
    assert "None of the query's 2 proteins" in warning
    assert "'CD8'" in warning
    assert Aligner(REFERENCE, REFERENCE.genes, ["CD8", "CD19"]).report.warnings == ()


# The rest


def test_cells_without_counts_align() -> None:
    query = make_query([[0, 0], [0, 3]], ["CD3E", "OTHER"])
    cells = Aligner(REFERENCE, query.gene_names).align(query)
    np.testing.assert_array_equal(cells.library, [0, 0])
    assert cells.rna.nnz == 0


def test_a_whole_toy_query_aligns_to_itself() -> None:
    query = toy_query(20)
    share = (1 / len(TOY.genes),) * len(TOY.genes)
    reference = ReferenceFeatures(
        genes=tuple(TOY.genes), proteins=tuple(TOY.proteins), labels=tuple(TOY.labels), gene_share=share
    )
    with open_query(query) as source:
        cells = Aligner(reference, source.gene_names, source.protein_names).align(source.read(0, 20))
    np.testing.assert_array_equal(cells.rna.toarray(), query.X.toarray())
    np.testing.assert_allclose(cells.library, query.X.sum(axis=1).A1, rtol=1e-6)
    np.testing.assert_array_equal(cells.protein, query.obsm["protein_expression"])


@pytest.mark.parametrize("field", ["gene_share", "ensembl_ids"])
def test_features_have_one_entry_per_gene(field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}: expected one entry for each of 4 genes, found 1"):
        ReferenceFeatures.model_validate(REFERENCE.model_dump() | {field: REFERENCE.model_dump()[field][:1]})


def test_features_survive_json_exactly() -> None:
    share = tuple(np.random.default_rng(0).dirichlet(np.ones(4)).astype(np.float32).tolist())
    features = REFERENCE.model_copy(update={"gene_share": share})
    assert ReferenceFeatures.model_validate_json(features.model_dump_json()) == features
