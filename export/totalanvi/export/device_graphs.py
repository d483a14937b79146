"""Writes what only a device is given: see `totalanvi.serving.bundles.graphs.device_graphs`."""

from __future__ import annotations

from pathlib import Path

from totalanvi.export.imputation_graphs import (
    add_weighted_graph,
    bounds_graph,
    readout_counts_graph,
    readout_imputed_graph,
)
from totalanvi.export.rows_graph import rows_graph
from totalanvi.export.search_graphs import density_graph, nearest_graph
from totalanvi.serving.bundles.graphs import (
    ADD_WEIGHTED,
    BOUNDS,
    DENSITY,
    NEAREST,
    READOUT_COUNTS,
    READOUT_IMPUTED,
    ROWS,
    GraphSignature,
)

__all__ = ["write_device_graph"]


def write_device_graph(graph: GraphSignature, n_genes: int, folder: Path) -> None:
    """Write a graph into a folder, under the name of its signature.

    Parameters
    ----------
    graph
        Which.
    n_genes
        Of the reference.
    folder
        Where to.
    """
    makers = {
        ROWS: lambda: rows_graph(n_genes),
        NEAREST: nearest_graph,
        DENSITY: density_graph,
        ADD_WEIGHTED: add_weighted_graph,
        READOUT_COUNTS: readout_counts_graph,
        READOUT_IMPUTED: readout_imputed_graph,
        BOUNDS: bounds_graph,
    }
    made = makers[graph]()
    (folder / graph.file).write_bytes(made.SerializeToString(deterministic=True))
