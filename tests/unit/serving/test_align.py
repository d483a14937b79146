"""Alignment: proteins, what the report says, and when a query is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError
from tests.support.alignment import REFERENCE, make_query
from tests.support.queries import refusal
from tests.support.toy_bundle import TOY, toy_query

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.alignment.report import AlignmentReport
from totalanvi.serving.bundles.thresholds import Thresholds
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.queries.readers import open_query


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
    assert report.gene_names == "var_names"
    assert report.genes.ways == {"name": 2}
    assert report.proteins.ways == {"spelling": 1}
    assert (report.gene_coverage, report.gene_weight) == (pytest.approx(0.6), pytest.approx(0.5))
    assert AlignmentReport.model_validate(json.loads(report.model_dump_json())) == report


def test_lists_are_short_and_begin_with_what_matters_most() -> None:
    weight = tuple((np.arange(1, 101) / 5050).tolist())
    reference = ReferenceFeatures(
        genes=tuple(f"G{i}" for i in range(100)),
        labels=("a", "b"),
        gene_share=(0.01,) * 100,
        gene_weight=weight,
        thresholds=Thresholds(gene_weight_warn=0, gene_weight_refuse=0),
    )
    report = Aligner(reference, [f"G{i}" for i in range(80, 100)] + [f"X{i}" for i in range(50)]).report
    assert (report.genes.missing, report.genes.extra) == (80, 50)
    assert report.genes.missing_names == tuple(f"G{i}" for i in range(79, -1, -1))
    short = report.shortened().genes
    assert (short.missing, short.extra) == (80, 50)
    assert short.missing_names == tuple(f"G{i}" for i in range(79, 59, -1))
    assert short.extra_names == tuple(f"X{i}" for i in range(20))


# Proteins


def test_proteins_match_whatever_their_case() -> None:
    query = make_query([[1], [2]], ["CD3E"], [[7, 8, 9], [0, 0, 0]], ("hla-dr", "other", "cd3"))
    cells = Aligner(REFERENCE, query.gene_names, query.protein_names).align(query)
    np.testing.assert_array_equal(cells.protein, [[9, 0, 7], [0, 0, 0]])
    np.testing.assert_array_equal(cells.measured, [[True, False, True], [False, False, False]])


def test_of_two_proteins_the_one_written_as_the_reference_does_is_taken() -> None:
    query = make_query([[1]], ["CD3E"], [[5, 7]], ("cd3", "CD3"))
    np.testing.assert_array_equal(
        Aligner(REFERENCE, query.gene_names, query.protein_names).align(query).protein, [[7, 0, 0]]
    )


def test_two_antibodies_for_one_protein_are_reported_and_not_guessed() -> None:
    query = make_query([[1]], ["CD3E"], [[5, 7, 9]], ("CD3_UCHT1", "CD3-OKT3", "ADT_CD19"))
    aligner = Aligner(REFERENCE, query.gene_names, query.protein_names)
    cells = aligner.align(query)
    np.testing.assert_array_equal(cells.protein, [[0, 9, 0]])
    np.testing.assert_array_equal(cells.measured, [[False, True, False]])
    (warning,) = (text for text in aligner.report.warnings if "left out" in text)
    assert "'CD3_UCHT1' (CD3), 'CD3-OKT3' (CD3)" in warning
    assert "--feature-map" in warning


def test_a_name_of_two_proteins_is_reported_and_not_guessed() -> None:
    reference = REFERENCE.model_copy(update={"proteins": ("CD4.1", "CD4.2", "CD19")})
    report = Aligner(reference, REFERENCE.genes, ["CD4", "CD19"]).report
    (left_out,) = report.proteins.left_out
    assert left_out.model_dump() == {"query": "CD4", "reason": "ambiguous", "candidates": ("CD4.1", "CD4.2")}
    assert "'CD4' (CD4.1 or CD4.2)" in report.warnings[0]


def test_controls_and_hashtags_measure_no_protein() -> None:
    names = ("CD3_TotalSeqB", "IgG2a_control", "Hashtag1")
    query = make_query([[1], [1], [1]], ["CD3E"], [[3, 1, 9], [0, 1, 9], [0, 0, 0]], names)
    aligner = Aligner(REFERENCE, query.gene_names, query.protein_names)
    np.testing.assert_array_equal(aligner.align(query).has_protein, [True, False, False])
    assert {entry.query: entry.reason for entry in aligner.report.proteins.left_out} == {
        "IgG2a_control": "isotype control",
        "Hashtag1": "hashtag",
    }
    assert aligner.report.proteins.extra == 0


def test_a_cell_whose_panel_was_read_has_zeros_where_nothing_bound() -> None:
    query = make_query([[1], [1]], ["CD3E"], [[5, 0], [5, 1]], ("CD8", "CD19"))
    cells = Aligner(REFERENCE, query.gene_names, query.protein_names).align(query)
    np.testing.assert_array_equal(cells.has_protein, [True, True])
    np.testing.assert_array_equal(cells.protein, [[0, 0, 0], [0, 1, 0]])
    unknown = make_query([[1]], ["CD3E"], [[5]], ("CD8",))
    assert not Aligner(REFERENCE, unknown.gene_names, unknown.protein_names).align(unknown).has_protein.any()


# Enough in common


def test_no_gene_in_common_is_refused() -> None:
    message = refusal(AlignmentError, lambda: Aligner(REFERENCE, ["other", "names"]), "no gene in common", "'CD3E'")
    assert "'other'" in message
    assert "symbol or Ensembl id" in message
    refusal(AlignmentError, lambda: Aligner(REFERENCE.model_copy(update={"ensembl_ids": None}), ["x"]), "by symbol as")


def test_too_few_genes_in_common_are_refused() -> None:
    message = refusal(AlignmentError, lambda: Aligner(REFERENCE, ["NKG7"]), "at least 25%", "too few in common")
    assert "1 of 4 genes" in message
    assert "20.0%" in message
    assert "'CD3E', 'MS4A1', 'LYZ'" in message


def test_little_in_common_is_warned_of() -> None:
    assert Aligner(REFERENCE, ["CD3E", "MS4A1", "LYZ"]).report.warnings == ()
    (warning,) = Aligner(REFERENCE, ["CD3E"]).report.warnings
    assert "40.0%" in warning
    assert "75%" in warning


def test_the_reference_sets_the_thresholds() -> None:
    strict = REFERENCE.model_copy(update={"thresholds": Thresholds(gene_weight_warn=0.99, gene_weight_refuse=0.6)})
    refusal(AlignmentError, lambda: Aligner(strict, ["CD3E"]), "at least 60%")
    assert len(Aligner(strict, ["CD3E", "MS4A1"]).report.warnings) == 1
    lax = REFERENCE.model_copy(
        update={"thresholds": Thresholds(gene_weight_warn=0, gene_weight_refuse=0), "gene_share": (1, 0, 0, 0)}
    )
    refusal(AlignmentError, lambda: Aligner(lax, ["LYZ"]), "too few in common", "10.0%")


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
        genes=tuple(TOY.genes),
        proteins=tuple(TOY.proteins),
        labels=tuple(TOY.labels),
        gene_share=share,
        gene_weight=share,
        thresholds=REFERENCE.thresholds,
    )
    with open_query(query) as source:
        cells = Aligner(reference, source.gene_names, source.protein_names).align(source.read(0, 20))
    np.testing.assert_array_equal(cells.rna.toarray(), query.X.toarray())
    np.testing.assert_allclose(cells.library, query.X.sum(axis=1).A1, rtol=1e-6)
    np.testing.assert_array_equal(cells.protein, query.obsm["protein_expression"])


@pytest.mark.parametrize("field", ["gene_share", "gene_weight", "ensembl_ids"])
def test_features_have_one_entry_per_gene(field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}: expected one entry for each of 4 genes, found 1"):
        ReferenceFeatures.model_validate(REFERENCE.model_dump() | {field: REFERENCE.model_dump()[field][:1]})


def test_features_survive_json_exactly() -> None:
    share = tuple(np.random.default_rng(0).dirichlet(np.ones(4)).astype(np.float32).tolist())
    features = REFERENCE.model_copy(update={"gene_share": share})
    assert ReferenceFeatures.model_validate_json(features.model_dump_json()) == features
