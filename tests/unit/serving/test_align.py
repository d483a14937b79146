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

from totalanvi.serving.align import Aligner
from totalanvi.serving.errors import AlignmentError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.query import Query
from totalanvi.serving.readers import open_query
from totalanvi.serving.resolution.report import AlignmentReport
from totalanvi.serving.thresholds import Thresholds

REFERENCE = ReferenceFeatures(
    genes=("CD3E", "MS4A1", "NKG7", "LYZ"),
    ensembl_ids=("ENSG00000198851", "ENSG00000156738", "ENSG00000105374", None),
    proteins=("CD3", "CD19", "HLA-DR"),
    labels=("T", "B"),
    gene_share=(0.5, 0.25, 0.15, 0.1),
    gene_weight=(0.4, 0.3, 0.2, 0.1),
    thresholds=Thresholds(gene_weight_warn=0.75, gene_weight_refuse=0.25),
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


# Names


@pytest.mark.parametrize("suffix", ["", ".4"])
def test_ensembl_ids_match_whatever_their_version(suffix: str) -> None:
    ids = [f"{known}{suffix}" for known in REFERENCE.ensembl_ids or () if known]
    query = make_query([[1, 2, 3]], ids)
    aligner = Aligner(REFERENCE, query.gene_names)
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[1, 2, 3, 0]])
    assert aligner.report.genes.ways == {"ensembl": 3}
    assert aligner.report.genes.resolved[0].model_dump() == {"query": ids[0], "reference": "CD3E", "way": "ensembl"}
    assert aligner.report.gene_coverage == pytest.approx(0.9)


def test_a_reference_named_by_ensembl_ids_takes_them_with_any_version() -> None:
    reference = REFERENCE.model_copy(
        update={"genes": ("ENSG00000198851.7", "ENSG00000156738.1", "NKG7", "LYZ"), "ensembl_ids": None}
    )
    query = make_query([[1, 2]], ["ENSG00000156738", "ENSG00000198851.9"])
    np.testing.assert_array_equal(Aligner(reference, query.gene_names).align(query).rna.toarray(), [[2, 1, 0, 0]])


def test_a_reference_named_by_ensembl_ids_takes_the_symbols_that_it_brings() -> None:
    ids = ("ENSG00000198851", "ENSG00000156738", "ENSG00000105374", "ENSG00000090382")
    reference = REFERENCE.model_copy(
        update={"genes": ids, "ensembl_ids": None, "gene_symbols": ("CD3E", "MS4A1", "NKG7", None)}
    )
    query = make_query([[1, 2, 3]], ["MS4A1", "CD3E", "LYZ"])
    aligner = Aligner(reference, query.gene_names)
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[2, 1, 0, 0]])
    assert aligner.report.genes.ways == {"symbol": 2}


def test_some_genes_may_be_named_by_symbol_and_others_by_id() -> None:
    aligner = Aligner(REFERENCE, ["CD3E", "ENSG00000156738", "LYZ"])
    assert aligner.report.genes.ways == {"name": 2, "ensembl": 1}
    assert aligner.report.gene_weight == pytest.approx(0.8)


def test_the_same_gene_under_two_versions_is_summed_with_a_note() -> None:
    query = make_query([[1, 2, 4]], ["ENSG00000198851.1", "ENSG00000198851.2", "ENSG00000156738"])
    aligner = Aligner(REFERENCE, query.gene_names)
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[3, 4, 0, 0]])
    (note,) = aligner.report.notes
    assert note.startswith("2 columns were summed into 1 genes, such as 'CD3E'")
    (summed,) = aligner.report.genes.summed
    assert summed.query == ("ENSG00000198851.1", "ENSG00000198851.2")


def test_repeated_names_are_summed() -> None:
    query = make_query([[1, 2, 4]], ["CD3E", "CD3E", "MS4A1"], [[5, 6, 7]], ("CD3", "CD19", "CD3"))
    cells = Aligner(REFERENCE, query.gene_names, query.protein_names).align(query)
    np.testing.assert_array_equal(cells.rna.toarray(), [[3, 4, 0, 0]])
    np.testing.assert_array_equal(cells.protein, [[12, 6, 0]])
    assert cells.rna.has_canonical_format


def test_a_surer_name_has_the_gene_alone() -> None:
    query = make_query([[1, 2, 4]], ["cd3e", "CD3E", "MS4A1"])
    aligner = Aligner(REFERENCE, query.gene_names)
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[2, 4, 0, 0]])
    (left_out,) = aligner.report.genes.left_out
    assert left_out.model_dump() == {"query": "cd3e", "reason": "taken", "candidates": ("CD3E",)}


# Columns of var

COLUMNS = {"gene_ids": ["ENSG00000198851", "ENSG00000156738", ""], "kind": ["Gene Expression"] * 3}


def test_the_column_that_matches_best_names_the_genes() -> None:
    aligner = Aligner(REFERENCE, ["one", "MS4A1", "three"], gene_columns=COLUMNS)
    assert aligner.report.gene_names == "gene_ids"
    assert aligner.report.gene_weight == pytest.approx(0.7)
    assert any("'gene_ids'" in note for note in aligner.report.notes)
    assert Aligner(REFERENCE, ["CD3E", "MS4A1", "x"], gene_columns=COLUMNS).report.gene_names == "var_names"


def test_a_column_can_be_named() -> None:
    query = make_query([[1, 2, 3]], ["one", "MS4A1", "three"])
    aligner = Aligner(REFERENCE, query.gene_names, gene_columns=COLUMNS, gene_column="var_names")
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[0, 2, 0, 0]])
    act = lambda: Aligner(REFERENCE, query.gene_names, gene_columns=COLUMNS, gene_column="ids")  # noqa: E731
    refusal(AlignmentError, act, "column 'ids'", "'var_names', 'gene_ids', 'kind'", "--gene-column")


# Species


def test_small_letters_are_no_other_species() -> None:
    aligner = Aligner(REFERENCE, ["cd3e", "ms4a1", "nkg7"])
    assert aligner.report.genes.ways == {"spelling": 3}
    assert any("'cd3e' as 'CD3E'" in note for note in aligner.report.notes)


@pytest.mark.parametrize("ids", [REFERENCE.ensembl_ids, None], ids=["ids", "no ids"])
def test_a_mouse_query_is_refused_by_name(ids: tuple[str | None, ...] | None) -> None:
    reference = REFERENCE.model_copy(update={"ensembl_ids": ids})
    symbols = ["Cd3e", "Ms4a1", "Nkg7", "Lyz2"]
    refusal(AlignmentError, lambda: Aligner(reference, symbols), "another (mouse or rat)", "'Cd3e'", "--feature-map")
    mouse_ids = [f"ENSMUSG{i:011d}" for i in range(4)]
    refusal(AlignmentError, lambda: Aligner(reference, mouse_ids), "another (mouse)", "human")
    capitals = [name.upper() for name in symbols]
    act = lambda: Aligner(reference, capitals, gene_columns={"gene_ids": mouse_ids})  # noqa: E731
    refusal(AlignmentError, act, "another (mouse)", "human")


def test_a_human_query_is_refused_by_a_mouse_reference() -> None:
    reference = REFERENCE.model_copy(update={"genes": ("Cd3e", "Ms4a1", "Nkg7", "Lyz2"), "ensembl_ids": None})
    refusal(AlignmentError, lambda: Aligner(reference, ["CD3E", "MS4A1"]), "(mouse or rat: 'Cd3e')", "another (human)")
    assert Aligner(reference, ["Cd3e", "Ms4a1", "CD8A"]).report.genes.matched == 2


def test_a_column_of_orthologs_makes_no_other_species() -> None:
    mouse_ids = [f"ENSMUSG{i:011d}" for i in range(3)]
    orthologs = {"mouse_id": mouse_ids, "mouse": ["Cd3e", "Ms4a1", "Nkg7"]}
    ids = list(REFERENCE.ensembl_ids or ())[:3]
    for columns in (orthologs, {"gene_ids": ids} | orthologs, orthologs | {"gene_ids": ids}):
        aligner = Aligner(REFERENCE, ["CD3E", "MS4A1", "NKG7"], gene_columns={"gene_ids": ids} | columns)
        assert aligner.report.gene_names == "var_names"
    human = {"human": ["CD3E", "MS4A1", "NKG7"]}
    refusal(AlignmentError, lambda: Aligner(REFERENCE, mouse_ids, gene_columns=human), "another (mouse)")
    refusal(AlignmentError, lambda: Aligner(REFERENCE, orthologs["mouse"], gene_columns=human), "mouse or rat")
    # Named by the user, they are what is meant.
    named = Aligner(REFERENCE, mouse_ids, gene_columns=human, gene_column="human")
    assert named.report.genes.matched == 3


def test_a_few_genes_of_another_species_are_left_aside() -> None:
    aligner = Aligner(REFERENCE, ["CD3E", "MS4A1", "Nkg7", "Cd3e"])
    assert aligner.report.genes.matched == 2
    assert aligner.report.genes.extra_names == ("Nkg7", "Cd3e")


def test_the_users_map_may_name_orthologs() -> None:
    query = make_query([[1, 2, 3]], ["Cd3e", "Ms4a1", "Nkg7"])
    aligner = Aligner(REFERENCE, query.gene_names, feature_map={"Cd3e": "CD3E", "Ms4a1": "MS4A1"})
    np.testing.assert_array_equal(aligner.align(query).rna.toarray(), [[1, 2, 0, 0]])
    assert any("another (mouse or rat)" in warning for warning in aligner.report.warnings)
    refusal(AlignmentError, lambda: Aligner(REFERENCE, ["Cd3e", "Ms4a1"], feature_map={"x": "CD3E"}), "mouse or rat")


# The user's map


def test_the_map_goes_before_every_other_name() -> None:
    query = make_query([[1, 2, 4, 8]], ["MS4A1", "CD3E", "mine", "LYZ"], [[5, 7]], ("CD3", "ADT-7"))
    meanings = {"MS4A1": "CD3E", "mine": "ENSG00000105374", "LYZ": "", "ADT-7": "CD19", "CD3": "HLA-DR", "other": "CD3"}
    aligner = Aligner(REFERENCE, query.gene_names, query.protein_names, feature_map=meanings)
    cells = aligner.align(query)
    np.testing.assert_array_equal(cells.rna.toarray(), [[1, 0, 4, 0]])
    np.testing.assert_array_equal(cells.protein, [[0, 7, 5]])
    assert {entry.query: entry.reason for entry in aligner.report.genes.left_out} == {
        "CD3E": "taken",
        "LYZ": "mapped to nothing",
    }


def test_a_map_reads_names_in_the_column_that_is_taken_too() -> None:
    meanings = {"one": "NKG7", "ENSG00000156738": "LYZ"}
    aligner = Aligner(REFERENCE, ["one", "two", "three"], gene_columns=COLUMNS, feature_map=meanings)
    assert {entry.query: entry.reference for entry in aligner.report.genes.resolved} == {
        "ENSG00000198851": "NKG7",
        "ENSG00000156738": "LYZ",
    }


def test_a_map_that_names_nothing_of_the_query_is_told() -> None:
    genes = ["CD3E", "MS4A1", "ENSG00000105374"]
    assert Aligner(REFERENCE, genes, feature_map={"CD3E": "CD3E", "other": "LYZ"}).report.warnings == ()
    (warning,) = Aligner(REFERENCE, genes, feature_map={"one": "LYZ", "two": "CD3"}).report.warnings
    assert "None of the 2 names" in warning
    assert "'one', 'two'" in warning


def test_a_map_to_an_unknown_name_is_refused() -> None:
    act = lambda: Aligner(REFERENCE, ["CD3E"], feature_map={"a": "CD3E", "b": "CD999"})  # noqa: E731
    refusal(AlignmentError, act, "'CD999'", "1 names", "Spell them as the reference does")


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
