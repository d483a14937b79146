"""Genes and proteins that stand together in ``var``, told apart by what 10x, and after it scanpy, says of each.

``scanpy.read_10x_h5(gex_only=False)`` leaves them so. Together, a gene and a protein of one name would be one feature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.formats.tenx import GENE, PROTEIN, PROTEIN_KEY

if TYPE_CHECKING:
    import anndata

__all__ = ["FEATURE_TYPES", "FeatureKinds", "apart", "feature_kinds"]

FEATURE_TYPES = "feature_types"
"""Column of ``var`` with the type of each feature."""

_GENES = {GENE.casefold(), "gex"}
_PROTEINS = {PROTEIN.casefold(), "adt"}
"""As Cell Ranger writes them, and as published tables of several assays shorten them."""


@dataclass(frozen=True, eq=False)
class FeatureKinds:
    """Positions of the genes (genes,) and of the proteins (proteins,) among features; the rest are neither."""

    genes: npt.NDArray[np.intp]
    proteins: npt.NDArray[np.intp]


def feature_kinds(types: Iterable[object]) -> FeatureKinds | None:
    """Tell genes from proteins by their types (features,); None where all are of one kind, or types say nothing.

    A feature without a type, as joining tables leaves it, counts as a gene.

    Examples
    --------
    >>> feature_kinds(["Gene Expression", "Antibody Capture", "Peaks", ""]).genes
    array([0, 3])
    >>> feature_kinds(["Antibody Capture"]) is None
    True
    """
    folded = [value.casefold() if isinstance(value, str) else "" for value in types]
    if not _GENES.intersection(folded):
        return None
    is_gene = np.array([kind in _GENES or not kind for kind in folded])
    if is_gene.all():
        return None
    is_protein = np.array([kind in _PROTEINS for kind in folded])
    return FeatureKinds(np.flatnonzero(is_gene), np.flatnonzero(is_protein))


def apart(adata: anndata.AnnData, layer: str | None = None) -> anndata.AnnData:
    """Return an AnnData of the genes alone, with proteins in ``obsm["protein_expression"]``.

    Parameters
    ----------
    adata
        Whose ``var["feature_types"]`` tells the kinds; without that, or with one kind alone, it is returned as it is.
    layer
        Where the protein counts are read; None for ``X``. What ``obsm`` has already stays.
    """
    kinds = feature_kinds(adata.var[FEATURE_TYPES]) if FEATURE_TYPES in adata.var else None
    if kinds is None:
        return adata
    genes = adata[:, kinds.genes].copy()
    if len(kinds.proteins) and PROTEIN_KEY not in adata.obsm:
        counts: Any = (adata.X if layer is None else adata.layers[layer])[:, kinds.proteins]
        values = counts.toarray() if sparse.issparse(counts) else np.asarray(counts)
        genes.obsm[PROTEIN_KEY] = pd.DataFrame(
            values, index=adata.obs_names, columns=list(adata.var_names[kinds.proteins])
        )
    return genes
