"""A query's features brought into the reference's: its order, zeros for what the query lacks, nothing else.

This is `prepare_query_anndata` and `prepare_query_mudata`. A gene that is padded with zeros was not measured, yet
counts as seen and silent from then on; so a query that lacks many is worth a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from totalanvi.formats.layer_names import layer_names
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training.checks import require_type
from totalanvi.training.errors import RegistrationError, listed
from totalanvi.training.registration.counts import require_unique
from totalanvi.training.registration.stored_rows import is_stored

__all__ = ["with_features", "with_features_of_modalities"]

_SHARE_THAT_NEEDS_NO_WARNING = 0.8


def with_features(adata: AnnData, names: pd.Index, what: str = "gene") -> AnnData:
    """Bring an AnnData into an order of features.

    Parameters
    ----------
    adata
        Cells by any features.
    names
        Features wanted, in order.
    what
        What a feature is, for messages.

    Returns
    -------
    AnnData
        A new object, (cells, names): ``X`` and all layers padded with zeros; ``obs``, ``obsm``, ``obsp`` and ``uns`` as
        they are.

    Raises
    ------
    RegistrationError
        When not one feature is there, names are repeated, or counts lie in a file.
    """
    require_type("adata", adata, AnnData, "call prepare_query_mudata for a MuData", RegistrationError)
    require_unique(adata.var_names, what)
    source = adata.var_names.astype(str).get_indexer(names)
    found = int((source >= 0).sum())
    if found == 0:
        raise RegistrationError(
            f"Expected {what}s of the reference ({listed(names, 3)}), found none of them among the query's "
            f"({listed(adata.var_names, 3)}); give both the same kind of names."
        )
    if found < _SHARE_THAT_NEEDS_NO_WARNING * len(names):
        warnings.warn(
            f"The query has {found} of the reference's {len(names)} {what}s; the others are padded with zeros, which "
            "costs accuracy. A model trained on the shared ones may do better.",
            UserWarning,
            stacklevel=3,
        )
    return AnnData(
        X=None if adata.X is None else _columns(adata.X, source),
        layers={name: _columns(adata.layers[name], source) for name in layer_names(adata)},
        obs=adata.obs.copy(),
        var=adata.var.reindex(names),
        obsm={name: value.copy() for name, value in adata.obsm.items()},
        obsp={name: value.copy() for name, value in adata.obsp.items()},
        uns=dict(adata.uns),
    )


def with_features_of_modalities(mdata: MuData, names: Mapping[str, pd.Index]) -> MuData:
    """Bring the modalities of a MuData into orders of features.

    Parameters
    ----------
    mdata
        The query.
    names
        Features wanted, by modality. Modalities that the query lacks, and others that it has, are left out.

    Returns
    -------
    MuData
        A new object with the ``obs`` and ``uns`` of ``mdata``.

    Raises
    ------
    RegistrationError
        When no modality is there; otherwise as `with_features`.
    """
    require_type("mdata", mdata, MuData, "call prepare_query_anndata for an AnnData", RegistrationError)
    modalities = {
        modality: with_features(mdata.mod[modality], index, f"{modality} feature")
        for modality, index in names.items()
        if modality in mdata.mod
    }
    if not modalities:
        raise RegistrationError(
            f"Expected a modality out of {', '.join(names)}, as the reference has them, found {', '.join(mdata.mod)}; "
            "rename the query's modalities."
        )
    # As the next mudata does by default; this one warns of it. What is in obs is brought along here anyway.
    with not_pulling():
        prepared = MuData(modalities)
    # Cells of modalities that were left out are left out, too.
    prepared.obs = mdata.obs.loc[prepared.obs_names].copy()
    prepared.uns.update(mdata.uns)
    return prepared


def _columns(matrix: Any, source: np.ndarray[Any, np.dtype[np.intp]]) -> Any:
    """Columns of a matrix by position, zeros where it is −1; a sparse matrix stays one, and values keep their type."""
    if is_stored(matrix):
        raise RegistrationError(
            "Expected a query in memory, to bring its features into the reference's order, found one whose counts lie "
            "in a file; read it first (adata.to_memory(), or without backed=)."
        )
    there = np.flatnonzero(source >= 0)
    if sp.issparse(matrix):
        shape = (matrix.shape[1], len(source))
        selector = sp.csr_matrix((np.ones(len(there), matrix.dtype), (source[there], there)), shape=shape)
        return sp.csr_matrix(sp.csr_matrix(matrix) @ selector)
    padded = np.zeros((matrix.shape[0], len(source)), matrix.dtype)
    padded[:, there] = np.asarray(matrix)[:, source[there]]
    return padded
