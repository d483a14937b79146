"""How the names of queries end, and those of lists of queries."""

from __future__ import annotations

__all__ = ["LIST_SUFFIXES", "QUERY_SUFFIXES"]

QUERY_SUFFIXES = (".h5ad", ".h5mu", ".h5", ".zarr")
"""What is taken for a query where a folder holds other things as well."""

LIST_SUFFIXES = (".txt", ".csv", ".tsv")
"""What is taken for a list of queries: no query is stored so."""
