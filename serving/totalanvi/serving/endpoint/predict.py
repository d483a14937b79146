"""Cells as JSON, for people with curl: from names and counts to labels and proteins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.alignment.align import Aligner, FeatureIndex
from totalanvi.serving.alignment.report import AlignmentReport, feature_match
from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.bundles.thresholds import Thresholds
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import QueryError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.outputs.imputation_notes import imputation_messages
from totalanvi.serving.outputs.label_names import certain_names, label_names
from totalanvi.serving.wire.schemas import PredictAnswer, PredictedCell, PredictRequest, ReferenceName

__all__ = ["AlignedRequest", "align_request", "answer_request"]


@dataclass(frozen=True, eq=False)
class AlignedRequest:
    """The cells of a JSON request in the model's terms, and what there is to say about their names.

    Parameters
    ----------
    ids
        Of the cells (cells,).
    cells
        Aligned.
    report
        How the names of all cells were resolved.
    """

    ids: list[str]
    cells: AlignedCells
    report: AlignmentReport


def align_request(features: ReferenceFeatures, index: FeatureIndex, request: PredictRequest) -> AlignedRequest:
    """Align the cells of one JSON request.

    Names are resolved cell by cell, so that what a cell is mapped to does not depend on what others name.

    Raises
    ------
    QueryError
        When cells share an id, a cell has a gene that is not among the measured ones, or the reference refuses them.
    """
    ids = [str(place) if cell.id is None else cell.id for place, cell in enumerate(request.cells)]
    _require_unique("cell id", ids)
    aligners = _aligners(features, index, request)
    cells = _align(features, aligners, request)
    return AlignedRequest(ids, cells, _report(features, aligners, request.measured_genes is None))


def answer_request(
    info: ReferenceInfo, features: ReferenceFeatures, aligned: AlignedRequest, options: MapOptions, mapped: MappedCells
) -> PredictAnswer:
    """Return what a JSON request is answered, once its cells were mapped."""
    # A cell may lack what another names: there it is imputed.
    columns = zip(info.proteins, aligned.cells.measured.T, strict=True)
    imputed = [name for name, measured in columns if not measured.all()]
    alignment = aligned.report
    return PredictAnswer(
        reference=ReferenceName(name=info.name, version=info.version, digest=info.digest),
        cells=_answers(aligned.ids, mapped, features),
        unknown_genes=list(alignment.genes.extra_names),
        unknown_proteins=list(alignment.proteins.extra_names),
        warnings=[*alignment.warnings, *_zero_messages(aligned.cells), *imputation_messages(info, options, imputed)],
        alignment=alignment,
    )


def _aligners(features: ReferenceFeatures, index: FeatureIndex, request: PredictRequest) -> list[Aligner]:
    """Return the aligner of each cell; cells that name the same features share one."""
    measured = request.measured_genes
    if measured is None:
        # Every gene of the reference was measured: how much of it the named ones cover says nothing.
        thresholds = Thresholds(gene_weight_warn=0, gene_weight_refuse=0)
        features = features.model_copy(update={"thresholds": thresholds})
    else:
        _require_measured([name for cell in request.cells for name in cell.genes], measured)
    made: dict[tuple[tuple[str, ...], tuple[str, ...]], Aligner] = {}
    aligners = []
    for cell in request.cells:
        names = tuple(cell.genes if measured is None else measured), tuple(cell.proteins)
        if names not in made:
            made[names] = Aligner(features, *names, index=index)
        aligners.append(made[names])
    return aligners


def _align(features: ReferenceFeatures, aligners: Sequence[Aligner], request: PredictRequest) -> AlignedCells:
    n_cells = len(request.cells)
    protein = np.zeros((n_cells, len(features.proteins)), dtype=np.float32)
    measured = np.zeros(protein.shape, dtype=bool)
    rows: list[int] = []
    columns: list[int] = []
    counts: list[int] = []
    for row, (cell, aligner) in enumerate(zip(request.cells, aligners, strict=True)):
        for name, place in aligner.genes.by_name():
            if count := cell.genes.get(name):
                rows.append(row)
                columns.append(place)
                counts.append(count)
        for name, place in aligner.proteins.by_name():
            protein[row, place] += cell.proteins[name]
            measured[row, place] = True
    # Counts of the same gene under two names add up.
    values = np.array(counts, dtype=np.float32)
    rna = sparse.csr_matrix((values, (rows, columns)), shape=(n_cells, len(features.genes)))
    if request.measured_genes is None:
        library = np.asarray(rna.sum(axis=1), dtype=np.float32).ravel()
        return AlignedCells(rna=rna, library=library, protein=protein, measured=measured)
    genes = aligners[0]
    return AlignedCells(
        rna=rna, library=genes.library_of(rna), protein=protein, measured=measured, present=genes.present
    )


def _report(features: ReferenceFeatures, aligners: Sequence[Aligner], whole: bool) -> AlignmentReport:
    """Describe the names of a request as those of one query, in short; `whole` when every gene was measured."""
    each = list({id(aligner): aligner for aligner in aligners}.values())
    first = each[0].report
    genes = feature_match(features.genes, [aligner.genes for aligner in each])
    if whole:
        # What is not named was counted, and is 0.
        genes = genes.model_copy(update={"missing": 0, "missing_names": ()})
    return AlignmentReport(
        genes=genes,
        proteins=feature_match(features.proteins, [aligner.proteins for aligner in each]),
        gene_names=first.gene_names,
        gene_coverage=1.0 if whole else first.gene_coverage,
        gene_weight=1.0 if whole else first.gene_weight,
        warnings=tuple(dict.fromkeys(message for aligner in each for message in aligner.warnings)),
        notes=tuple(dict.fromkeys(message for aligner in each for message in aligner.notes)),
    ).shortened()


def _answers(ids: Sequence[str], mapped: MappedCells, features: ReferenceFeatures) -> list[PredictedCell]:
    names, certain = label_names(features), certain_names(features)

    def by_protein(values: npt.NDArray[np.float32] | None, row: int) -> dict[str, float] | None:
        return None if values is None else dict(zip(features.proteins, _numbers(values[row]), strict=True))

    def intervals(row: int) -> dict[str, tuple[float, float] | None] | None:
        low, high = by_protein(mapped.protein_low, row), by_protein(mapped.protein_high, row)
        if low is None or high is None:
            return None
        return {name: None if math.isnan(low[name]) else (low[name], high[name]) for name in features.proteins}

    return [
        PredictedCell(
            id=ids[row],
            label=names[mapped.label[row]],
            guess=names[mapped.guess[row]],
            certain=certain[mapped.certain[row]] if features.parents else None,
            confidence=_number(mapped.confidence[row]),
            novelty=_number(mapped.novelty[row]),
            probabilities=dict(zip(features.labels, _numbers(mapped.probabilities[row]), strict=True)),
            label_set=[name for name, within in zip(features.labels, mapped.label_set[row], strict=True) if within],
            latent=_numbers(mapped.latent[row]),
            coordinates=(_number(mapped.coordinates[row, 0]), _number(mapped.coordinates[row, 1])),
            proteins=by_protein(mapped.protein, row),
            protein_intervals=intervals(row),
            protein_foreground=by_protein(mapped.protein_foreground, row),
        )
        for row in range(len(mapped))
    ]


def _zero_messages(cells: AlignedCells) -> list[str]:
    """Say how many cells have proteins that are all 0, which whoever sends rows of a table may not mean."""
    n_zero = int((cells.measured.any(axis=1) & ~cells.protein.any(axis=1)).sum())
    if not n_zero:
        return []
    return [
        f"{n_zero:,} of {len(cells):,} cells name proteins whose counts are all 0: they count as measured here, as "
        f"they are named. Leave proteins out of cells in which they were not measured."
    ]


def _numbers(values: npt.NDArray[np.float32]) -> list[float]:
    return [_number(value) for value in values]


def _number(value: np.float32) -> float:
    """Return the shortest decimal that is this float32: 0.3, not 0.30000001192092896."""
    return float(str(value))


def _require_unique(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise QueryError(f"Expected each {what} once, found {name!r} again; make them unique.")
        seen.add(name)


def _require_measured(named: Sequence[str], measured: Sequence[str]) -> None:
    _require_unique("measured gene", measured)
    known = set(measured)
    unmeasured = [name for name in named if name not in known]
    if unmeasured:
        raise QueryError(
            f"Expected counts of measured genes only, found {len(unmeasured)} others, such as {unmeasured[0]!r}; "
            "add them to measured_genes, or leave measured_genes out when the whole transcriptome was measured."
        )
