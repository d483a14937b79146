"""Cells as JSON, for people with curl: from names and counts to labels and proteins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.serving.align import Aligner
from totalanvi.serving.annotate import certain_names, label_names
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import QueryError, TooLargeError
from totalanvi.serving.features import Reference, ReferenceFeatures
from totalanvi.serving.manifest import Thresholds
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.query import Query
from totalanvi.serving.schemas import PredictAnswer, PredictCell, PredictedCell, PredictRequest, ReferenceName

__all__ = ["predict"]

_MAX_PLACES = 4_000_000
"""Of a dense table; a few bytes of JSON could ask for any number."""


def predict(reference: Reference, request: PredictRequest) -> PredictAnswer:
    """Map the cells of one JSON request.

    Raises
    ------
    QueryError
        When cells share an id, a cell has a gene that is not among the measured ones, or the reference refuses them.
    """
    ids = [str(place) if cell.id is None else cell.id for place, cell in enumerate(request.cells)]
    _require_unique("cell id", ids)
    named = list(dict.fromkeys(name for cell in request.cells for name in cell.genes))
    features = reference.features
    if request.measured_genes is None:
        # Every gene of the reference was measured: how much of it the named ones cover says nothing.
        features = features.model_copy(update={"thresholds": Thresholds(gene_coverage_warn=0, gene_coverage_refuse=0)})
    else:
        _require_measured(named, request.measured_genes)
    genes = named if request.measured_genes is None else request.measured_genes
    proteins = list(dict.fromkeys(name for cell in request.cells for name in cell.proteins))
    aligner = Aligner(features, genes, proteins)
    cells = _align(aligner, request.cells, ids, genes, proteins)
    if request.measured_genes is None:
        cells = replace(cells, library=np.asarray(cells.rna.sum(axis=1), dtype=np.float32).ravel())
    mapped = reference.score(cells, MapOptions(**request.options.model_dump()))
    info = reference.info()
    return PredictAnswer(
        reference=ReferenceName(name=info.name, version=info.version, digest=info.digest),
        cells=_answers(ids, mapped, features),
        unknown_genes=list(aligner.report.genes.extra_names),
        unknown_proteins=list(aligner.report.proteins.extra_names),
        warnings=list(aligner.report.warnings),
    )


def _align(
    aligner: Aligner, cells: Sequence[PredictCell], ids: Sequence[str], genes: Sequence[str], proteins: Sequence[str]
) -> AlignedCells:
    counts, named = _dense([cell.proteins for cell in cells], proteins)
    query = Query(
        cell_ids=pd.Index(ids),
        gene_names=tuple(genes),
        rna=_sparse([cell.genes for cell in cells], genes),
        rna_measured=np.ones(len(cells), dtype=bool),
        protein_names=tuple(proteins),
        proteins=counts,
        protein_measured=np.asarray(named.any(axis=1)),
    )
    aligned = aligner.align(query)
    # Cells may name different proteins: the places that are named take the way that counts take.
    measured = aligner.align(replace(query, proteins=named.astype(np.float32))).protein > 0
    return replace(aligned, measured=measured)


def _sparse(rows: Sequence[dict[str, int]], names: Sequence[str]) -> sparse.csr_matrix:
    """Return counts (cells, names)."""
    places = {name: place for place, name in enumerate(names)}
    pointers = np.cumsum([0, *(len(row) for row in rows)])
    columns = np.array([places[name] for row in rows for name in row], dtype=np.int32)
    counts = np.array([count for row in rows for count in row.values()], dtype=np.float32)
    matrix = sparse.csr_matrix((counts, columns, pointers), shape=(len(rows), len(names)))
    matrix.sort_indices()
    return matrix


def _dense(
    rows: Sequence[dict[str, int]], names: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return counts (cells, names), 0 where a cell does not name one, and where it does."""
    if len(rows) * len(names) > _MAX_PLACES:
        raise TooLargeError(
            f"Expected at most {_MAX_PLACES} places in a table of cells and proteins, found {len(rows)} cells and "
            f"{len(names)} protein names; send fewer cells at a time, or use the Python client."
        )
    places = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(rows), len(names)), dtype=np.float32)
    named = np.zeros(counts.shape, dtype=bool)
    for row, values in enumerate(rows):
        columns = [places[name] for name in values]
        counts[row, columns] = list(values.values())
        named[row, columns] = True
    return counts, named


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
            certain=certain[mapped.certain[row]],
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


def _numbers(values: npt.NDArray[np.float32]) -> list[float]:
    return [_number(value) for value in values]


def _number(value: np.float32) -> float:
    """Return the shortest decimal that is this float32: 0.3, not 0.30000001192092896."""
    return float(str(value))


def _require_unique(what: str, names: Sequence[str]) -> None:
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        raise QueryError(f"Expected each {what} once, found {str(repeated[0])!r} again; make them unique.")


def _require_measured(named: Sequence[str], measured: Sequence[str]) -> None:
    _require_unique("measured gene", measured)
    known = set(measured)
    unmeasured = [name for name in named if name not in known]
    if unmeasured:
        raise QueryError(
            f"Expected counts of measured genes only, found {len(unmeasured)} others, such as {unmeasured[0]!r}; "
            "add them to measured_genes, or leave measured_genes out when the whole transcriptome was measured."
        )
