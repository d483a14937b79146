"""Copies of queries in memory, to be annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from totalanvi.formats.layer_names import layer_names
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.queries.readers import is_mudata

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = ["copy_object"]


def copy_object(query: Any) -> anndata.AnnData | mudata.MuData:
    """Copy an AnnData or a MuData so that what is added to the copy is in memory alone.

    Of an AnnData that is backed by a file, ``X`` stays there: the copy is backed by the same file, for reading. A part
    of one (a view) is read, as no file holds it.

    Parameters
    ----------
    query
        AnnData, or MuData in memory.
    """
    if is_mudata(query):
        # A copy is the query as it is.
        with not_pulling():
            return query.copy()
    if not query.isbacked:
        return query.copy()
    if query.is_view:
        return query.to_memory()
    import anndata

    parts = {name: getattr(query, name).copy() for name in ("obs", "var", "uns")}
    parts |= {name: dict(getattr(query, name)) for name in ("obsm", "varm", "obsp", "varp")}
    parts["layers"] = {name: query.layers[name] for name in layer_names(query)}
    if query.raw is not None:
        # Its X is in the file, too.
        parts["raw"] = {"var": query.raw.var.copy(), "varm": dict(query.raw.varm)}
    try:
        return anndata.AnnData(**parts, filename=query.filename, filemode="r")
    except OSError:
        # HDF5 opens a file in one mode at a time: this one is open for writing, too.
        return anndata.AnnData(**parts, filename=query.filename, filemode="r+")
