"""A report on a query that has just been mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.report.query_report import QueryReport, query_page
from totalanvi.serving.report.record import MappingRecord
from totalanvi.serving.report.tally import Tally

__all__ = ["tally_for", "write_query_page"]


def tally_for(features: ReferenceFeatures, options: MapOptions) -> Tally:
    """Begin to count the cells of a query.

    Parameters
    ----------
    features
        Of the reference.
    options
        How the query is mapped.
    """
    return Tally(len(features.labels), len(features.proteins), options.novelty_threshold)


def write_query_page(
    file: Path,
    query: str,
    uns: Mapping[str, Any],
    features: ReferenceFeatures,
    tally: Tally,
    messages: Sequence[str],
    landmarks: npt.NDArray[np.float32] | None,
) -> None:
    """Write the page about a query.

    Parameters
    ----------
    file
        To make.
    query
        Its name.
    uns
        See `totalanvi.serving.outputs.provenance.provenance`.
    features
        Of the reference.
    tally, messages, landmarks
        See `QueryReport`.
    """
    record = MappingRecord.of(uns, "a mapping")
    report = QueryReport(query, record, features.labels, features.proteins, tally, messages, landmarks)
    file.write_text(query_page(report), encoding="utf-8")
