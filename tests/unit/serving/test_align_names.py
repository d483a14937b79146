"""Alignment: which gene is which, by its name, a column of var, its species, and the user's map."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.alignment import REFERENCE, make_query
from tests.support.queries import refusal

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.errors import AlignmentError

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


def test_a_map_from_a_gene_to_a_protein_is_told() -> None:
    meanings = {"CD3E": "HLA-DR", "ADT-7": "MS4A1", "ADT-8": "CD19"}
    aligner = Aligner(REFERENCE, ["CD3E", "MS4A1"], ["ADT-7", "ADT-8"], feature_map=meanings)
    warning = aligner.report.warnings[-1]
    assert warning.startswith("2 lines of the feature map call a gene a protein, or a protein a gene")
    assert "'CD3E' as 'HLA-DR', 'ADT-7' as 'MS4A1'." in warning


def test_a_map_to_an_unknown_name_is_refused() -> None:
    act = lambda: Aligner(REFERENCE, ["CD3E"], feature_map={"a": "CD3E", "b": "CD999"})  # noqa: E731
    refusal(AlignmentError, act, "'CD999'", "1 names", "Spell them as the reference does")
