"""Cells read whole, as the object that a file or folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scipy import sparse

from totalanvi.formats.errors import reading
from totalanvi.formats.layer_names import layer_names
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.formats.stores import content_of, layout_of, open_hdf5, open_zarr
from totalanvi.formats.tenx import tenx_anndata
from totalanvi.formats.tenx_folder import read_tenx_folder
from totalanvi.formats.tenx_h5 import TenxFile

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = ["read_object"]


def read_object(path: Path) -> anndata.AnnData | mudata.MuData:
    """Read ``.h5ad``, ``.h5mu``, a 10x ``.h5``, a 10x folder, or a Zarr folder of an AnnData or a MuData.

    Raises
    ------
    FormatError
        When nothing is there, it is damaged, reaches outside itself, or holds something else.

    Examples
    --------
    >>> read_object(Path("filtered_feature_bc_matrix.h5"))  # doctest: +SKIP
    """
    layout = layout_of(path)
    with reading(path):
        if layout == "10x folder":
            return tenx_anndata(*read_tenx_folder(path))
        found = _read_zarr(path) if layout == "zarr" else _read_hdf5(path)
        for adata in found.mod.values() if hasattr(found, "mod") else [found]:
            _require_structure(adata)
        return found


def _require_structure(adata: anndata.AnnData) -> None:
    """Verify where values of sparse matrices stand, which compiled routines follow unchecked.

    Raises
    ------
    ValueError
        When they lead out of a matrix.
    """
    raw = () if adata.raw is None else (adata.raw.X,)
    for matrix in (adata.X, *(adata.layers[name] for name in layer_names(adata)), *raw, *adata.obsm.values()):
        if sparse.issparse(matrix) and matrix.format in ("csr", "csc"):
            matrix.check_format(full_check=True)


def _read_hdf5(path: Path) -> anndata.AnnData | mudata.MuData:
    with open_hdf5(path) as file:
        content = content_of(path, file)
        if content == "10x":
            tenx = TenxFile(file)
            return tenx_anndata(tenx.cells, tenx.features, tenx[:])
    if content == "anndata":
        import anndata

        return anndata.read_h5ad(path)
    import mudata

    with not_pulling():
        return mudata.read_h5mu(path)


def _read_zarr(path: Path) -> anndata.AnnData | mudata.MuData:
    if content_of(path, open_zarr(path)) == "anndata":
        from anndata.io import read_zarr

        return read_zarr(path)
    import mudata

    with not_pulling():
        return mudata.read_zarr(path)
