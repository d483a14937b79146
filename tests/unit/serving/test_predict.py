"""Cells as JSON: what is named, what is not, and what that means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.toy_bundle import TOY, toy_query, write_toy_bundle

from totalanvi.serving.endpoint.catalogue import Offer
from totalanvi.serving.endpoint.jobs import json_job
from totalanvi.serving.errors import AlignmentError, QueryError
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits
from totalanvi.serving.wire.schemas import PredictAnswer


def ask(reference: LocalReference, *cells: dict[str, Any], **fields: Any) -> PredictAnswer:
    body = json.dumps({"cells": list(cells), **fields}).encode()
    job = json_job(body, lambda _: Offer.of(reference.bundle), Limits())
    return PredictAnswer.model_validate_json(job.answer(reference.score(job.cells, job.options)).content)


def as_cells(names: list[str], counts: np.ndarray[Any, Any]) -> list[dict[str, int]]:
    return [{name: int(n) for name, n in zip(names, row, strict=True) if n} for row in counts]


def test_a_cell_is_mapped_as_one_of_a_file_is(reference: LocalReference) -> None:
    query = toy_query(6)
    proteins = query.obsm["protein_expression"].to_numpy()
    rna = as_cells(TOY.genes, query.X.toarray())
    cells = [
        {"id": name, "genes": genes, "proteins": dict(zip(TOY.proteins, map(int, counts), strict=True))}
        for name, genes, counts in zip(query.obs_names, rna, proteins, strict=True)
    ]

    answer = ask(reference, *cells)

    mapped = reference.map(query)
    assert [cell.id for cell in answer.cells] == list(query.obs_names)
    assert [cell.label for cell in answer.cells] == list(mapped.obs["totalanvi_label"])
    assert [cell.certain for cell in answer.cells] == list(mapped.obs["totalanvi_certain"])
    assert [cell.guess for cell in answer.cells] == list(mapped.obs["totalanvi_guess"])
    assert ["|".join(cell.label_set) for cell in answer.cells] == list(mapped.obs["totalanvi_set"])
    for row, cell in enumerate(answer.cells):
        assert cell.proteins is not None
        np.testing.assert_allclose(list(cell.proteins.values()), mapped.obsm["totalanvi_protein"].iloc[row], rtol=1e-6)
        assert cell.protein_intervals is not None
        assert cell.protein_intervals.pop("IgG1") is None
        bounds = np.array(list(cell.protein_intervals.values()))
        for place, end in enumerate(("low", "high")):
            expected = mapped.obsm[f"totalanvi_protein_{end}"].iloc[row, :5]
            np.testing.assert_allclose(bounds[:, place], expected, rtol=1e-6)
        assert cell.protein_foreground is not None
        foreground = mapped.obsm["totalanvi_protein_foreground"].iloc[row]
        np.testing.assert_allclose(list(cell.protein_foreground.values()), foreground, rtol=1e-6)
        np.testing.assert_allclose(cell.latent, mapped.obsm["X_totalanvi"][row], rtol=1e-6)
        np.testing.assert_allclose(cell.confidence, mapped.obs["totalanvi_confidence"].iloc[row], rtol=1e-6)


def test_a_cell_does_not_depend_on_its_neighbours(reference: LocalReference) -> None:
    cell = {"genes": {"GENE000": 5, "GENE003": 2}, "proteins": {"CD19": 30}}
    other = {"genes": {"GENE040": 5, "UNKNOWN": 3}, "proteins": {"IgG1": 2, "CD45": 50}}

    alone = ask(reference, {"id": "a", **cell}).cells[0]
    together = ask(reference, {"id": "b", **other}, {"id": "a", **cell}).cells[1]

    assert together == alone


def test_proteins_that_a_cell_does_not_name_are_not_measured(reference: LocalReference) -> None:
    genes = {"GENE000": 5}

    without = ask(reference, {"genes": genes}).cells[0]
    zero = ask(reference, {"genes": genes, "proteins": {"CD19": 0}}).cells[0]
    mixed = ask(reference, {"genes": genes}, {"genes": genes, "proteins": {"CD19": 0}}).cells

    assert (mixed[0].confidence, mixed[1].confidence) == (without.confidence, zero.confidence)
    assert without.confidence != zero.confidence


def test_proteins_that_are_all_zero_are_told_of(reference: LocalReference) -> None:
    """A file's cell with such a panel counts as one without; here, a name says that there was a measurement."""
    genes = {"GENE000": 5}
    cells = [{"genes": genes, "proteins": {"CD19": 0, "CD4": 0}}, {"genes": genes}, {"genes": genes, "proteins": {}}]

    answer = ask(reference, *cells, {"genes": genes, "proteins": {"CD19": 0, "CD4": 1}})

    told = [warning for warning in answer.warnings if "all 0" in warning]
    assert len(told) == 1
    assert told[0].startswith("1 of 4 cells name proteins whose counts are all 0: they count as measured here")
    assert not any("all 0" in warning for warning in ask(reference, *cells[1:]).warnings)


def test_without_parents_no_label_is_the_nearest_certain_one(tmp_path: Path) -> None:
    without = LocalReference(write_toy_bundle(tmp_path / "toy", parents={}), provider="cpu")

    cell = ask(without, {"genes": {"GENE000": 5}}, options={"certainty": 1}).cells[0]

    assert cell.certain is None
    assert "totalanvi_certain" not in without.map(toy_query(3), impute=False).obs


def test_a_panel_of_genes_is_named_once_for_all(reference: LocalReference) -> None:
    panel = TOY.genes[:40]
    genes = {"GENE000": 5, "GENE001": 6}

    whole, part = ask(reference, {"genes": genes}), ask(reference, {"genes": genes}, measured_genes=panel)

    assert part.cells[0].latent != whole.cells[0].latent


def test_a_panel_that_covers_too_little_is_refused(reference: LocalReference) -> None:
    with pytest.raises(AlignmentError):
        ask(reference, {"genes": {"GENE055": 5}}, measured_genes=["GENE055", "GENE056"])


def test_ensembl_ids_name_genes_too(reference: LocalReference) -> None:
    by_symbol = ask(reference, {"genes": {"GENE000": 5, "GENE001": 6}})
    by_id = ask(reference, {"genes": {"ENSG00000000000.3": 5, "ENSG00000000001": 6}})

    assert by_id.cells == by_symbol.cells


def test_unknown_names_are_ignored_and_told(reference: LocalReference) -> None:
    answer = ask(reference, {"genes": {"GENE000": 5, "MT-CO1": 9}, "proteins": {"CD999": 1}})

    assert answer.unknown_genes == ["MT-CO1"]
    assert answer.unknown_proteins == ["CD999"]
    assert any("proteins" in warning for warning in answer.warnings)


def test_imputation_is_optional(reference: LocalReference) -> None:
    assert ask(reference, {"genes": {"GENE000": 5}}, options={"impute": False}).cells[0].proteins is None


def test_imputed_proteins_that_rna_cannot_predict_are_warned_of(reference: LocalReference) -> None:
    rna = {"genes": {"GENE000": 5}}
    measured = {**rna, "proteins": dict.fromkeys(TOY.proteins, 3)}

    def doubted(*cells: dict[str, Any], **options: Any) -> bool:
        answer = ask(reference, *cells, options=options)
        return any("RNA cannot predict 'IgG1'" in warning for warning in answer.warnings)

    assert doubted(rna)
    assert doubted(measured, rna)
    assert not doubted(measured)
    assert not doubted(rna, impute=False)
    as_batch = ask(reference, measured, options={"impute_as": "run1"})
    assert any("'run1' did not measure 'IgG1'" in warning for warning in as_batch.warnings)


@pytest.mark.parametrize(
    ("cells", "fields", "message"),
    [
        ([{"id": "a", "genes": {"GENE000": 1}}, {"id": "a", "genes": {"GENE000": 1}}], {}, "cell id once"),
        ([{"id": "1", "genes": {"GENE000": 1}}, {"genes": {"GENE000": 1}}], {}, "cell id once"),
        ([{"genes": {"GENE000": 1}}], {"measured_genes": ["GENE001"]}, "measured genes only"),
        ([{"genes": {"GENE000": 1}}], {"measured_genes": ["GENE000", "GENE000"]}, "measured gene once"),
        ([{"genes": {}}], {}, "no gene in common"),
        ([{"genes": {"GENE000": 1}}, {"genes": {"other": 1}}], {}, "no gene in common"),
        ([{"genes": {"GENE000": 1}}, {"genes": {"Gene000": 1}}], {}, "mouse or rat"),
    ],
)
def test_contradictions_are_refused(
    reference: LocalReference, cells: list[dict[str, Any]], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        ask(reference, *cells, **fields)


def test_names_of_one_cell_do_not_change_what_those_of_another_mean(reference: LocalReference) -> None:
    one = {"id": "a", "genes": {"GENE000": 5, "gene001": 2}, "proteins": {"cd19_TotalSeqB": 30}}
    other = {"id": "b", "genes": {"GENE001": 5}, "proteins": {"CD19": 2, "cd19": 50}}

    answer = ask(reference, one, other)

    assert answer.cells == [*ask(reference, one).cells, *ask(reference, other).cells]
    assert {entry.query: entry.way for entry in answer.alignment.genes.resolved} == {"gene001": "spelling"}
    assert {entry.query: entry.way for entry in answer.alignment.proteins.resolved} == {"cd19_TotalSeqB": "decoration"}
    assert [entry.query for entry in answer.alignment.proteins.left_out] == ["cd19"]


def test_the_answer_says_how_a_panel_was_matched(reference: LocalReference) -> None:
    answer = ask(reference, {"genes": {"GENE000": 5}}, measured_genes=TOY.genes[:40])

    assert (answer.alignment.genes.matched, answer.alignment.genes.missing) == (40, 20)
    assert answer.alignment.gene_weight == pytest.approx(160 / 180)
    whole = ask(reference, {"genes": {"GENE000": 5}}).alignment
    assert (whole.genes.matched, whole.genes.missing, whole.genes.missing_names, whole.gene_weight) == (1, 0, (), 1)
