"""What 10x matrices say of their features, and cells from them as an AnnData.

Cell Ranger's own readers need its whole environment, and those of the ecosystem come with scanpy, which plots and
clusters: far too much beside an endpoint. They also read whole files, where cells have to be mapped in windows. What
there is to read are four arrays, or three text files; hence `tenx_h5` and `tenx_folder`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from totalanvi.formats.errors import FormatError

if TYPE_CHECKING:
    import anndata

__all__ = ["GENE", "PROTEIN", "PROTEIN_KEY", "TenxFeatures", "require_barcodes", "tenx_anndata"]

GENE = "Gene Expression"
PROTEIN = "Antibody Capture"
PROTEIN_KEY = "protein_expression"
"""Key of ``obsm`` under which protein counts of a 10x matrix are found."""

Names = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class TenxFeatures:
    """The features of a 10x matrix, in its order.

    Parameters
    ----------
    ids, names, types
        Ensembl or antibody ids, symbols or antibody names, and types such as ``"Gene Expression"``, (features,) each.
    genomes
        Name of the genome that a feature belongs to (features,); None where the format does not tell.

    Raises
    ------
    FormatError
        When there is no gene among them, or two proteins have the same name and the same id.

    Examples
    --------
    >>> ids, names, types = (np.array(x, object) for x in (["ENSG1", "CD3"], ["CD3E", "CD3"], [GENE, PROTEIN]))
    >>> features = TenxFeatures(ids, names, types)
    >>> list(features.var.index), features.protein_names
    (['CD3E'], ('CD3',))
    """

    ids: Names
    names: Names
    types: Names
    genomes: Names | None = None

    def __post_init__(self) -> None:
        if not (self.types == GENE).any():
            found = ", ".join(f"{n} of type {kind!r}" for kind, n in Counter(self.types).most_common()) or "none"
            raise FormatError(
                f"Expected features of type {GENE!r} in a 10x matrix; found {found}. Name the matrix that holds RNA "
                f"(filtered_feature_bc_matrix)."
            )
        proteins = pd.Index(self.protein_names)
        if not proteins.is_unique:
            raise FormatError(
                f"Expected each antibody of a 10x matrix once; found {str(proteins[proteins.duplicated()][0])!r} (name "
                f"and id) again. Give each an id of its own in the feature reference, or copy the matrix again."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def genes(self) -> npt.NDArray[np.intp]:
        """Positions of the genes (genes,)."""
        return np.flatnonzero(self.types == GENE)

    @property
    def proteins(self) -> npt.NDArray[np.intp]:
        """Positions of the proteins (proteins,); features of any other type are neither."""
        return np.flatnonzero(self.types == PROTEIN)

    @property
    def protein_names(self) -> tuple[str, ...]:
        """Names of the proteins (proteins,); those of two antibodies to one protein with their ids, such as ``CD4_A1``.

        Columns of a table are to have names of their own.
        """
        names, ids = pd.Index(self.names[self.proteins]), self.ids[self.proteins]
        repeated = names.duplicated(keep=False)
        return tuple(f"{name}_{own}" if twice else name for name, own, twice in zip(names, ids, repeated, strict=True))

    @property
    def var(self) -> pd.DataFrame:
        """The genes by symbol, with ``gene_ids``, ``feature_types`` and, where known, ``genome``."""
        columns = {"gene_ids": self.ids, "feature_types": self.types}
        if self.genomes is not None:
            columns["genome"] = self.genomes
        return pd.DataFrame(columns, index=pd.Index(self.names, dtype=object)).iloc[self.genes]


def require_barcodes(barcodes: Names, expected: int) -> pd.Index:
    """Return the names of the cells (cells,), once there are as many as the matrix has, each once.

    Raises
    ------
    FormatError
        When there are more or fewer, or one repeats.
    """
    if len(barcodes) != expected:
        raise FormatError(
            f"Expected {expected} barcodes, as many as the 10x matrix has cells; found {len(barcodes)}. Copy the "
            f"matrix and its barcodes again, from one run."
        )
    cells = pd.Index(barcodes, dtype=object)
    if not cells.is_unique:
        repeated = cells[cells.duplicated()]
        raise FormatError(
            f"Expected each barcode of a 10x matrix once; found {len(repeated)} repeated, such as "
            f"{str(repeated[0])!r}. Give each run's barcodes a suffix of their own before joining matrices."
        )
    return cells


def tenx_anndata(cells: pd.Index, features: TenxFeatures, counts: sparse.csr_matrix) -> anndata.AnnData:
    """Put the parts of a 10x matrix together.

    Parameters
    ----------
    cells
        Barcodes (cells,).
    features
        The matrix's features.
    counts
        (cells, features).

    Returns
    -------
    AnnData
        Genes by symbol; proteins, if there are any, in ``obsm["protein_expression"]``, a DataFrame (cells, proteins).
    """
    import anndata

    with warnings.catch_warnings():
        # Symbols may repeat in a 10x reference; whoever uses them decides what becomes of these.
        warnings.filterwarnings("ignore", "Variable names are not unique", UserWarning)
        adata = anndata.AnnData(counts[:, features.genes], obs=pd.DataFrame(index=cells), var=features.var)
    if len(features.proteins):
        values: Any = counts[:, features.proteins].toarray()
        adata.obsm[PROTEIN_KEY] = pd.DataFrame(values, index=cells, columns=list(features.protein_names))
    return adata
