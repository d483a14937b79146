"""What is told of a mapping beside its results: in ``uns`` of the annotated query, and in full in a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from totalanvi.serving.alignment.report import AlignmentReport, FeatureMatch, as_columns
from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.outputs.imputation_notes import doubtful_proteins, imputation_messages, reliability_table
from totalanvi.serving.version import software_version

__all__ = ["provenance", "write_report"]


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
    described: dict[str, Any] = {
        "reference": {"name": reference.name, "version": reference.version, "digest": reference.digest},
        "options": {**options.as_dict(), "impute_as": options.impute_as or "average"},
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
    if reference.precision is not None:
        described["reference"]["precision"] = reference.precision.precision
    if options.impute:
        described["protein_reliability"] = reliability_table(reference)
        described["imputation"] = _imputation(reference, options, alignment.proteins.missing_names)
    return described


def write_report(path: Path, uns: dict[str, Any], alignment: AlignmentReport, cells: dict[str, int]) -> None:
    """Write what `provenance` says as JSON, with every name that alignment has to say something of.

    Parameters
    ----------
    path
        The file to make.
    uns
        See `provenance`.
    alignment
        In full.
    cells
        How many the query has, by what was found of them.
    """
    said = uns | {
        "cells": cells,
        "alignment": alignment.model_dump(mode="json"),
    }
    if (table := said.get("protein_reliability")) is not None:
        said["protein_reliability"] = _rows(table)
    if (imputation := said.get("imputation")) is not None:
        said["imputation"] = {key: names.tolist() for key, names in imputation.items()}
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn columns into rows for JSON, which knows no NaN."""
    frame = pd.DataFrame(table, dtype=object).replace(np.nan, None)
    return [dict(zip(table, row, strict=True)) for row in frame.itertuples(index=False)]


def _imputation(reference: ReferenceInfo, options: MapOptions, missing: Sequence[str]) -> dict[str, Any]:
    """Keep what imputation warns of.

    Of cells that lack the query's proteins nothing is known before all are mapped: ``doubtful`` names those of its
    proteins that matter then, and an output keeps the number of its cells beside (``cells``).
    """
    return {
        "warnings": np.array(imputation_messages(reference, options, missing), dtype=object),
        "doubtful": np.array(doubtful_proteins(reference, missing), dtype=object),
    }


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
