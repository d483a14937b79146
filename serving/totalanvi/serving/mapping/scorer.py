"""The one loop behind every way to map: read a block of cells, align it, score it, hand it on.

Where the query comes from (an object, a file), where it is scored (in this process, at an endpoint) and where results
go (an object, a file) are decided outside of it, see `totalanvi.serving.mapping.mapping`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.errors import QueryError
from totalanvi.serving.features import Reference
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells
from totalanvi.serving.outputs.annotate import reorder
from totalanvi.serving.queries.query import Query
from totalanvi.serving.queries.source import QuerySource

__all__ = ["DEFAULT_BATCH_SIZE", "score_blocks"]

DEFAULT_BATCH_SIZE = 4096
"""Cells that are read, sent and scored together; results do not depend on it."""


def score_blocks(
    reference: Reference, source: QuerySource, aligner: Aligner, options: MapOptions, batch_size: int
) -> Iterator[tuple[pd.Index, MappedCells]]:
    """Map a query block by block, in order.

    While blocks are scored the next one is read; `reference.in_flight` of them are scored at a time.

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

    Yields
    ------
    cell_ids, mapped
        Names (cells,) and results of a block's cells; cells without RNA have missing values (label -1, NaN).

    Raises
    ------
    ServingError
        Whatever reading or scoring raises; nothing is yielded for the block that failed or any after it.
    """
    n_latent = reference.info().n_latent

    def score(block: Query) -> tuple[pd.Index, MappedCells]:
        present = block.rna_measured
        if not present.any():
            return block.cell_ids, _missing(len(block), reference, n_latent, options)
        mapped = reference.score(aligner.align(block.rows(present)), options)
        if len(mapped) != present.sum():
            raise QueryError(
                f"Expected results for all {present.sum()} cells of a chunk; found {len(mapped)}. Map the query again."
            )
        return block.cell_ids, reorder(mapped, np.where(present, np.cumsum(present) - 1, -1))

    pending: deque[Future[tuple[pd.Index, MappedCells]]] = deque()
    pool = ThreadPoolExecutor(max_workers=reference.in_flight, thread_name_prefix="score")
    try:
        for block in source.blocks(batch_size):
            if len(pending) > reference.in_flight:
                yield pending.popleft().result()
            pending.append(pool.submit(score, block))
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
