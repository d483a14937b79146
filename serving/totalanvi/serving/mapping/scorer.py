"""The one loop behind every way to map: blocks of cells are read, aligned, scored, and handed on.

Where the query comes from (an object, a file), where it is scored (in this process, at an endpoint) and where results
go (an object, a file) are decided outside of it, see `totalanvi.serving.mapping.mapping`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import QueryError
from totalanvi.serving.features import Reference
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells
from totalanvi.serving.outputs.annotate import reorder
from totalanvi.serving.queries.source import QuerySource

__all__ = ["DEFAULT_BATCH_SIZE", "ScoredBlock", "score_blocks"]

DEFAULT_BATCH_SIZE = 4096
"""Cells that are read, sent and scored together; results do not depend on it."""


class ScoredBlock(NamedTuple):
    """Some cells of a query, and what became of them; cells without RNA have missing values (label -1, NaN)."""

    cell_ids: pd.Index
    """Their names, (cells,)."""
    mapped: MappedCells
    n_with_proteins: int
    """How many were mapped with proteins that were measured."""


def score_blocks(
    reference: Reference,
    source: QuerySource,
    aligner: Aligner,
    options: MapOptions,
    batch_size: int,
    rows: range | None = None,
) -> Generator[ScoredBlock, None, None]:
    """Map a query, or a part of it, block by block, in order.

    Three things go on at a time: one thread reads and aligns blocks, `reference.in_flight` others score them, and
    whoever asks for results does with them what takes time, such as writing them. No more blocks are in memory than
    keep these busy.

    Parameters
    ----------
    reference
        Where blocks are scored.
    source
        The query.
    aligner
        Made for `reference` and the features of `source`.
    options
        How to map.
    batch_size
        Cells in a block.
    rows
        Which cells, following one another; None for all.

    Yields
    ------
    ScoredBlock
        Of the next cells.

    Raises
    ------
    ServingError
        Whatever reading or scoring raises; nothing is yielded for the block that failed or any after it.
    """
    n_latent = reference.info().n_latent
    rows = range(len(source)) if rows is None else rows
    blocks = source.blocks(batch_size, rows)

    def read() -> _Block:
        query = next(blocks)
        present = query.rna_measured
        aligned = aligner.align(query.rows(present)) if present.any() else None
        return _Block(query.cell_ids, present, aligned)

    def score(reading: Future[_Block]) -> ScoredBlock:
        block = reading.result()
        if block.aligned is None:
            return ScoredBlock(block.cell_ids, _missing(len(block.cell_ids), reference, n_latent, options), 0)
        mapped = reference.score(block.aligned, options)
        n_cells = len(block.aligned)
        if len(mapped) != n_cells:
            raise QueryError(
                f"Expected results for all {n_cells} cells of a chunk; found {len(mapped)}. Map the query again."
            )
        mapped = reorder(mapped, np.where(block.present, np.cumsum(block.present) - 1, -1))
        return ScoredBlock(block.cell_ids, mapped, int(block.aligned.has_protein.sum()))

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
    scorers = ThreadPoolExecutor(max_workers=reference.in_flight, thread_name_prefix="score")
    pending: deque[Future[ScoredBlock]] = deque()
    try:
        for _ in rows[::batch_size]:
            if len(pending) > reference.in_flight + 1:
                yield pending.popleft().result()
            pending.append(scorers.submit(score, reader.submit(read)))
        while pending:
            yield pending.popleft().result()
    finally:
        # What is being read or scored comes to its end; nothing else begins.
        reader.shutdown(wait=False, cancel_futures=True)
        scorers.shutdown(cancel_futures=True)
        reader.shutdown()


@dataclass(frozen=True, eq=False)
class _Block:
    """Some cells of a query: their names (cells,), which have RNA (cells,), and those that do; None if that is none."""

    cell_ids: pd.Index
    present: npt.NDArray[np.bool_]
    aligned: AlignedCells | None


def _missing(n_cells: int, reference: Reference, n_latent: int, options: MapOptions) -> MappedCells:
    """Return results for cells of which none can be mapped."""
    features = reference.features

    def absent(*columns: int) -> Any:
        return np.full((n_cells, *columns), np.nan, dtype=np.float32)

    return MappedCells(
        label=np.full(n_cells, -1, dtype=np.int32),
        guess=np.full(n_cells, -1, dtype=np.int32),
        certain=np.full(n_cells, -1, dtype=np.int32),
        confidence=absent(),
        novelty=absent(),
        probabilities=absent(len(features.labels)),
        label_set=np.zeros((n_cells, len(features.labels)), dtype=bool),
        latent=absent(n_latent),
        coordinates=absent(2),
        **{name: absent(len(features.proteins)) for name in PROTEIN_ARRAYS if options.impute},
    )
