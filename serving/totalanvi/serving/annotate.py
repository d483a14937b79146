"""From mapped cells to annotations: what stands in ``obs``, ``obsm`` and ``uns`` of an annotated query, and where."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.info import ReferenceInfo
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.resolution.report import AlignmentReport, FeatureMatch, as_columns
from totalanvi.serving.version import software_version

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = [
    "CONFIDENCE",
    "LABEL",
    "NOVELTY",
    "OBSM_KEYS",
    "OBS_COLUMNS",
    "UNS_KEY",
    "Annotations",
    "annotate",
    "provenance",
    "reorder",
    "write_report",
]

LABEL = "totalanvi_label"
CONFIDENCE = "totalanvi_confidence"
NOVELTY = "totalanvi_novelty"
OBS_COLUMNS = (LABEL, CONFIDENCE, NOVELTY)
OBSM_KEYS = ("X_totalanvi", "X_totalanvi_map", "totalanvi_probabilities", "totalanvi_protein")
UNS_KEY = "totalanvi"


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is written into a query: columns of ``obs``, entries of ``obsm``, and ``uns["totalanvi"]``.

    Parameters
    ----------
    obs
        By name: a categorical or an array, (cells,); labels that are missing are NaN.
    obsm
        By name: an array, or a DataFrame with labels or proteins as columns, (cells, columns).
    uns
        Where the annotations come from, see `provenance`.
    """

    obs: dict[str, Any]
    obsm: dict[str, Any]
    uns: dict[str, Any]

    @classmethod
    def of(
        cls,
        mapped: MappedCells,
        cell_ids: pd.Index,
        names: pd.Index,
        features: ReferenceFeatures,
        uns: dict[str, Any],
    ) -> Annotations:
        """Arrange mapped cells as annotations of the cells called `names`.

        Parameters
        ----------
        mapped
            Results (mapped cells, …).
        cell_ids
            Names of the mapped cells (mapped cells,).
        names
            Names of the cells to annotate (cells,), in their order; those that were not mapped get missing values.
        features
            Names the columns.
        uns
            See `provenance`.
        """
        placed = reorder(mapped, cell_ids.get_indexer(names))
        obs = {
            LABEL: pd.Categorical.from_codes(placed.label, categories=pd.Index(features.labels)),
            CONFIDENCE: placed.confidence,
            NOVELTY: placed.novelty,
        }
        obsm: dict[str, Any] = {
            "X_totalanvi": placed.latent,
            "X_totalanvi_map": placed.coordinates,
            "totalanvi_probabilities": pd.DataFrame(placed.probabilities, index=names, columns=list(features.labels)),
        }
        if placed.protein is not None and features.proteins:
            obsm["totalanvi_protein"] = pd.DataFrame(placed.protein, index=names, columns=list(features.proteins))
        return cls(obs, obsm, uns)


def reorder(mapped: MappedCells, positions: npt.NDArray[np.integer]) -> MappedCells:
    """Take mapped cells by position, with missing values where the position is -1.

    Parameters
    ----------
    mapped
        Results (mapped cells, …).
    positions
        Row of each cell in `mapped` (cells,), or -1.

    Returns
    -------
    MappedCells
        (cells, …); -1 for a label that is missing, NaN for every other missing value.
    """
    absent = positions < 0
    if not absent.any():
        return mapped.rows(positions)
    arrays: dict[str, Any] = {"protein": None}
    for name, array in mapped.arrays().items():
        missing = np.full((len(positions), *array.shape[1:]), -1 if name == "label" else np.nan, dtype=array.dtype)
        missing[~absent] = array[positions[~absent]]
        arrays[name] = missing
    return MappedCells(**arrays)


def provenance(
    reference: ReferenceInfo, options: MapOptions, alignment: AlignmentReport, rna: str, proteins: str | None
) -> dict[str, Any]:
    """Describe where annotations come from, in values that HDF5 can hold and that are the same in every run.

    Parameters
    ----------
    reference
        Whose name, version and digest are kept.
    options, alignment
        How the query was mapped.
    rna, proteins
        Which parts of the query were read, such as ``"layer 'counts'"``; None for no proteins.
    """
    return {
        "reference": {"name": reference.name, "version": reference.version, "digest": reference.digest},
        "options": options.as_dict(),
        "query": {"rna": rna, "proteins": proteins or "none"},
        "alignment": {
            "gene_names": alignment.gene_names,
            "gene_coverage": alignment.gene_coverage,
            "gene_weight": alignment.gene_weight,
            "genes": _feature_match(alignment.genes.shortened()),
            "proteins": _feature_match(alignment.proteins.shortened()),
            "warnings": np.array(alignment.warnings, dtype=object),
            "notes": np.array(alignment.notes, dtype=object),
        },
        "totalanvi": software_version(),
    }


def write_report(path: Path, uns: dict[str, Any], alignment: AlignmentReport, n_cells: int, n_without_rna: int) -> None:
    """Write what `provenance` says as JSON, with every name that alignment has to say something of.

    Parameters
    ----------
    path
        The file to make.
    uns
        See `provenance`.
    alignment
        In full.
    n_cells, n_without_rna
        Cells of the query, and those among them that could not be mapped.
    """
    said = uns | {
        "cells": {"total": n_cells, "without_rna": n_without_rna},
        "alignment": alignment.model_dump(mode="json"),
    }
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def annotate(data: anndata.AnnData | mudata.MuData, annotations: Annotations) -> None:
    """Add annotations to an AnnData or a MuData in place; those of an earlier run are replaced, or removed."""
    for column in OBS_COLUMNS:
        data.obs[column] = annotations.obs[column]
    for key in OBSM_KEYS:
        if key in annotations.obsm:
            data.obsm[key] = annotations.obsm[key]
        elif key in data.obsm:
            # An earlier run imputed proteins, this one did not: what is left must not look like this run's.
            del data.obsm[key]
    data.uns[UNS_KEY] = copy.deepcopy(annotations.uns)


def _feature_match(match: FeatureMatch) -> dict[str, Any]:
    return {
        "matched": match.matched,
        "missing": match.missing,
        "extra": match.extra,
        "missing_names": np.array(match.missing_names, dtype=object),
        "extra_names": np.array(match.extra_names, dtype=object),
        "ways": dict(match.ways),
        "resolved": as_columns(match.resolved, ("query", "reference", "way")),
        "left_out": as_columns(match.left_out, ("query", "reason", "candidates")),
        "summed": as_columns(match.summed, ("reference", "query")),
    }
