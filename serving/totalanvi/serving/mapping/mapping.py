"""Map a query to a reference: an object in memory into an annotated copy, a file into another file."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from totalanvi.serving.alignment.feature_map import FeatureMap, read_feature_map
from totalanvi.serving.errors import QueryError
from totalanvi.serving.features import Reference, ShownReference
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.beforehand import (
    aligner_for,
    counts_notes,
    measured_doubtful,
    messages_before,
    provenance_of,
)
from totalanvi.serving.mapping.cell_counts import CellCounts
from totalanvi.serving.mapping.progress import shown_progress
from totalanvi.serving.mapping.scorer import DEFAULT_BATCH_SIZE, score_blocks
from totalanvi.serving.outputs.annotate import Annotations, annotate
from totalanvi.serving.outputs.imputation_notes import few_proteins_messages
from totalanvi.serving.outputs.left_out_note import left_out_messages
from totalanvi.serving.outputs.map_summary import MapSummary
from totalanvi.serving.outputs.novelty_notes import many_unknown_messages
from totalanvi.serving.outputs.object_copies import copy_object
from totalanvi.serving.outputs.output import plan_output, plan_report, staged
from totalanvi.serving.outputs.provenance import write_report
from totalanvi.serving.outputs.writers import open_writer
from totalanvi.serving.outputs.written_cells import WrittenCells
from totalanvi.serving.queries.readers import QueryData, is_mudata, open_query, read_object
from totalanvi.serving.report.of_mapping import tally_for, write_query_page
from totalanvi.serving.report.tally import CellResults

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = ["map_file", "map_object"]


def map_object(
    reference: Reference,
    data: QueryData,
    proteins: str | None = None,
    layer: str | None = None,
    options: MapOptions | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = False,
    *,
    gene_column: str | None = None,
    feature_map: FeatureMap | None = None,
) -> anndata.AnnData | mudata.MuData:
    """Map a query and return an annotated copy of it.

    Parameters
    ----------
    reference
        What to map to.
    data
        AnnData, MuData, or the path of a file or folder, which is read whole.
    proteins, layer
        See `totalanvi.serving.queries.readers.open_query`.
    gene_column
        See `totalanvi.serving.alignment.align.Aligner`.
    feature_map
        See `totalanvi.serving.alignment.feature_map.read_feature_map`.
    options
        How to map; None for the defaults.
    batch_size
        Cells in a block.
    progress
        Whether to show a progress bar, or elsewhere than on a terminal a line now and then.

    Returns
    -------
    AnnData or MuData
        As `data`, with the annotations that `totalanvi.serving.outputs.annotate` names; backed by the same file, which
        stays as it is, when `data` is.

    Warns
    -----
    UserWarning
        When the query's genes cover little of the reference, its proteins are all unknown, cells have no RNA, or many
        of them look like none of the reference's.
    """
    _require_batch_size(batch_size)
    options = options or MapOptions()
    query: Any = read_object(data) if isinstance(data, (str, os.PathLike)) else data
    _require_copyable(query)
    meanings = {} if feature_map is None else read_feature_map(feature_map)
    with open_query(query, proteins, layer) as source:
        aligner = aligner_for(reference, source, gene_column, meanings)
        for message in messages_before(reference, source, aligner, options):
            warnings.warn(message, UserWarning, stacklevel=3)
        blocks, counts = [], CellCounts(reference.features, options)
        with shown_progress(len(source), progress) as advance:
            for block in score_blocks(reference, source, aligner, options, batch_size):
                blocks.append(block.mapped)
                counts.add(block)
                advance(len(block.cell_ids))
        n_mapped = len(source) - source.n_without_rna
        few = few_proteins_messages(measured_doubtful(reference, aligner, options), counts.n_with_proteins, n_mapped)
        for message in (*few, *many_unknown_messages(counts.n_unknown, n_mapped, options.false_positive_rate)):
            warnings.warn(message, UserWarning, stacklevel=3)
        mapped = MappedCells.concatenate(blocks)
        cells = WrittenCells(n_mapped, counts.n_with_proteins)
        uns = provenance_of(reference, source, aligner, options) | {"cells": cells.as_dict()}
        annotated = copy_object(query)
        targets = [annotated.mod[source.rna_modality], annotated] if is_mudata(annotated) else [annotated]
        for target in targets:
            names = pd.Index(target.obs_names)
            annotate(target, Annotations.of(mapped, source.cell_ids, names, reference.features, uns))
    return annotated


def map_file(
    open_reference: Callable[[], ShownReference],
    query: Path,
    output: str,
    proteins: str | None = None,
    layer: str | None = None,
    options: MapOptions | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    overwrite: bool = False,
    progress: bool = False,
    *,
    gene_column: str | None = None,
    feature_map: FeatureMap | None = None,
    report: Path | None = None,
) -> MapSummary:
    """Map a query's file into another file or a folder.

    Output and query are judged before the reference is opened, so that a slip costs no time.

    Parameters
    ----------
    open_reference
        Opens what to map to.
    query
        Its file or folder, see `totalanvi.serving.queries.readers.open_query`, read in blocks.
    output, overwrite
        See `totalanvi.serving.outputs.output.plan_output`.
    proteins, layer
        See `totalanvi.serving.queries.readers.open_query`.
    gene_column
        See `totalanvi.serving.alignment.align.Aligner`.
    feature_map
        See `totalanvi.serving.alignment.feature_map.read_feature_map`.
    options
        How to map; None for the defaults.
    batch_size
        Cells in a block, and in each part of a folder.
    progress
        Whether to show a progress bar, or elsewhere than on a terminal a line now and then.
    report
        Where to write how the query's features were matched, as JSON, or what became of the query, as a page that ends
        in ``.html``; like `output`, it replaces nothing unless `overwrite`.

    Raises
    ------
    ServingError
        When anything is wrong with output, query or reference; nothing is written then.
    """
    _require_batch_size(batch_size)
    options = options or MapOptions()
    plan = plan_output(output, query, overwrite)
    report_plan = None if report is None else plan_report(report, (query, plan.path), overwrite)
    meanings = {} if feature_map is None else read_feature_map(feature_map)
    with open_query(query, proteins, layer) as source:
        plan.require_kind(source.kind)
        left_out = left_out_messages(plan, source)
        reference = open_reference()
        start = time.perf_counter()
        aligner = aligner_for(reference, source, gene_column, meanings)
        uns = provenance_of(reference, source, aligner, options)
        messages = tuple(messages_before(reference, source, aligner, options))
        tally = None if report_plan is None or report_plan.format == "json" else tally_for(reference.features, options)
        landmarks = None if tally is None else reference.landmarks()
        counts = CellCounts(reference.features, options)
        with (
            nullcontext() if report_plan is None else staged(report_plan) as report_file,
            open_writer(plan, query, source.rna_modality, reference.features, uns) as writer,
            shown_progress(len(source), progress) as advance,
            closing(score_blocks(reference, source, aligner, options, batch_size)) as blocks,
        ):
            for block in blocks:
                writer.write(block.cell_ids, block.mapped, block.n_with_proteins)
                counts.add(block)
                if tally is not None:
                    tally.add(CellResults.of(block.mapped))
                advance(len(block.cell_ids))
            n_mapped = len(source) - source.n_without_rna
            doubtful = measured_doubtful(reference, aligner, options)
            messages += tuple(few_proteins_messages(doubtful, counts.n_with_proteins, n_mapped))
            if report_file is not None and tally is not None:
                # Of unknown cells the page says by itself how many there are.
                write_query_page(report_file, query.name, uns, reference.features, tally, messages, landmarks)
            elif report_file is not None:
                cells = {
                    "total": len(source),
                    "without_rna": source.n_without_rna,
                    "with_proteins": counts.n_with_proteins,
                }
                write_report(report_file, uns, aligner.report, cells)
    unknown = many_unknown_messages(counts.n_unknown, n_mapped, options.false_positive_rate)
    return MapSummary(
        output=plan.path,
        n_cells=len(source),
        n_without_rna=source.n_without_rna,
        n_with_proteins=counts.n_with_proteins,
        n_unknown=counts.n_unknown,
        options=options,
        labels=counts.labels(),
        alignment=aligner.report,
        messages=(*messages, *unknown, *left_out),
        notes=(*counts_notes(source, layer), *aligner.report.notes),
        seconds=time.perf_counter() - start,
    )


def _require_copyable(query: Any) -> None:
    if is_mudata(query) and query.isbacked:
        raise QueryError(
            "Expected a MuData in memory; found one that is backed by a file. Read it whole (mudata.read_h5mu(path))."
        )


def _require_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise QueryError(
            f"Expected a batch size that is a whole number of at least 1; found {batch_size!r}. Choose some thousands."
        )
