"""From an AnnData or a MuData to registered cells.

``setup_anndata`` and ``setup_mudata`` only note, on the object itself, what is where; the model reads that note when it
is made. The note is plain JSON, so it survives copying, subsetting and writing to a file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from totalanvi.training.counts import as_count_rows, as_dense_counts, require_unique
from totalanvi.training.data import UNLABELLED, Cells
from totalanvi.training.errors import RegistrationError
from totalanvi.training.registry import Registry

__all__ = ["Setup", "is_set_up", "read_cells", "read_setup", "register", "write_setup"]

_NOTE = "_totalanvi_setup"
_ONE_BATCH = "0"


@dataclass(frozen=True)
class Setup:
    """Where the parts of a reference are; the arguments of ``setup_anndata`` and ``setup_mudata``."""

    kind: str
    """``"anndata"`` or ``"mudata"``."""
    rna: str | None = None
    """Modality of the RNA (MuData)."""
    proteins: str | None = None
    """Key in ``obsm`` (AnnData) or modality (MuData) of the protein counts."""
    rna_layer: str | None = None
    protein_layer: str | None = None
    protein_names_uns_key: str | None = None
    batch_key: str | None = None
    panel_key: str | None = None
    labels_key: str | None = None
    unlabeled: tuple[str, ...] = ()


def write_setup(data: AnnData | MuData, setup: Setup) -> None:
    """Note on ``data`` how it is registered."""
    data.uns[_NOTE] = json.dumps(asdict(setup))


def is_set_up(data: AnnData | MuData) -> bool:
    """Whether `write_setup` has noted anything on ``data``."""
    return _NOTE in data.uns


def read_setup(data: AnnData | MuData) -> Setup:
    """Read what `write_setup` noted.

    Raises
    ------
    RegistrationError
        When ``data`` was not set up.
    """
    note = data.uns.get(_NOTE)
    if note is None:
        raise RegistrationError(
            "Expected data that was set up, found none of it noted; call setup_anndata(adata, ...) or "
            "setup_mudata(mdata, ...) on this object first."
        )
    fields = json.loads(note)
    fields["unlabeled"] = tuple(fields["unlabeled"])
    return Setup(**fields)


@dataclass(frozen=True)
class _Tables:
    """The parts of one data object, cells aligned."""

    names: pd.Index
    obs: pd.DataFrame
    rna: sp.csr_matrix
    genes: pd.Index
    var: pd.DataFrame
    protein: npt.NDArray[np.float32]
    proteins: pd.Index


def register(data: AnnData | MuData, setup: Setup, override_missing_proteins: bool = False) -> tuple[Registry, Cells]:
    """Register a reference.

    Parameters
    ----------
    data
        The reference.
    setup
        Where its parts are.
    override_missing_proteins
        Take a protein that is zero throughout a panel as measured.

    Returns
    -------
    registry, cells
        Names and codes, and the cells in the order of ``data`` (MuData: of its RNA modality).

    Raises
    ------
    RegistrationError
        For missing keys, repeated names, no cell, no labelled cell or fewer than two labels.
    CountsError
        For values that are not raw counts.
    """
    tables = _tables(data, setup)
    if len(tables.names) == 0 or len(tables.genes) == 0:
        raise RegistrationError(
            f"Expected a reference with cells and genes, found {len(tables.names)} cells and {len(tables.genes)} "
            "genes; look at what filtered it."
        )
    if tables.rna.nnz == 0:
        raise RegistrationError(
            "Expected cells with RNA counts, found zeros only; name the layer that holds raw counts."
        )
    if len(tables.proteins) == 0:
        raise RegistrationError("Expected protein counts, found no protein; give a reference that has some.")
    labels, label_codes = _labels(tables.obs, setup)
    batches, batch_codes = _categories(tables.obs, setup.batch_key, "batch")
    panels, panel_codes = (
        (batches, batch_codes) if setup.panel_key is None else _categories(tables.obs, setup.panel_key, "panel")
    )
    has_proteins = np.asarray(tables.protein.any(axis=1))
    if not has_proteins.any():
        raise RegistrationError("Expected cells with protein counts, found zeros only; name the protein counts.")
    panel_proteins = _measured_by(panel_codes, len(panels), tables.protein, has_proteins, override_missing_proteins)
    measured = panel_proteins[panel_codes] & has_proteins[:, None]
    batch_proteins = np.stack([measured[batch_codes == code].any(axis=0) for code in range(len(batches))])
    registry = Registry(
        genes=tuple(tables.genes),
        ensembl_ids=_ensembl_ids(tables.var),
        proteins=tuple(tables.proteins),
        labels=labels,
        unlabeled=setup.unlabeled,
        batches=batches,
        panels=panels,
        batch_proteins=_as_rows(batch_proteins),
        panel_proteins=_as_rows(panel_proteins),
        setup=asdict(setup),
    )
    return registry, Cells(tables.rna, tables.protein, measured, batch_codes, panel_codes, label_codes)


def read_cells(data: AnnData | MuData, setup: Setup, registry: Registry) -> Cells:
    """Read other cells for a model that exists: features are matched by name, codes by the registry.

    Raises
    ------
    RegistrationError
        When genes or proteins of the model are missing, or a batch, panel or label is unknown to it.
    """
    tables = _tables(data, setup)
    rna = tables.rna[:, _positions(tables.genes, registry.genes, "gene")]
    protein = tables.protein[:, _positions(tables.proteins, registry.proteins, "protein")]
    batch = _known_codes(tables.obs, setup.batch_key, registry.batches, "batch")
    panel = batch if setup.panel_key is None else _known_codes(tables.obs, setup.panel_key, registry.panels, "panel")
    label = np.full(len(tables.names), UNLABELLED)
    if setup.labels_key is not None and setup.labels_key in tables.obs:
        values = _label_values(tables.obs, setup)
        label = pd.Index(registry.labels).get_indexer(pd.Index(values)).astype(np.int64)
    measured = registry.panel_mask()[panel] & np.asarray(protein.any(axis=1))[:, None]
    return Cells(sp.csr_matrix(rna), protein, measured, batch, panel, label.astype(np.int64))


# Parts of a data object


def _tables(data: AnnData | MuData, setup: Setup) -> _Tables:
    expected = "MuData" if setup.kind == "mudata" else "AnnData"
    if isinstance(data, MuData) != (setup.kind == "mudata"):
        raise RegistrationError(
            f"Expected {expected}, as set up with setup_{setup.kind}(), found {type(data).__name__}; put the cells "
            f"into {expected}, or map them through an exported bundle, which takes both."
        )
    tables = _mudata_tables(data, setup) if isinstance(data, MuData) else _anndata_tables(data, setup)
    require_unique(tables.genes, "gene")
    require_unique(tables.proteins, "protein")
    return tables


def _anndata_tables(adata: AnnData, setup: Setup) -> _Tables:
    if setup.proteins not in adata.obsm:
        raise RegistrationError(
            f"Expected protein counts in obsm[{setup.proteins!r}], found the keys "
            f"{_listed(adata.obsm.keys())}; name one of them."
        )
    require_unique(adata.obs_names, "cell")
    where, counts = _counts_of(adata, setup.rna_layer, "")
    matrix = adata.obsm[setup.proteins]
    proteins = _protein_names(adata, matrix, setup)
    return _Tables(
        names=adata.obs_names,
        obs=adata.obs,
        rna=as_count_rows(counts, where, adata.obs_names, adata.var_names),
        genes=adata.var_names,
        var=adata.var,
        protein=as_dense_counts(matrix, f"obsm[{setup.proteins!r}]", adata.obs_names, proteins),
        proteins=proteins,
    )


def _mudata_tables(mdata: MuData, setup: Setup) -> _Tables:
    for modality in (setup.rna, setup.proteins):
        if modality not in mdata.mod:
            raise RegistrationError(
                f"Expected a modality {modality!r}, found {_listed(mdata.mod.keys())}; name one of them in "
                "`modalities`."
            )
    rna, prot = mdata.mod[setup.rna], mdata.mod[setup.proteins]
    require_unique(rna.obs_names, "cell")
    require_unique(prot.obs_names, "cell")
    without_rna = int((~prot.obs_names.isin(rna.obs_names)).sum())
    if without_rna:
        warnings.warn(
            f"{without_rna} cells have no RNA and are left out: the model starts from RNA.", UserWarning, stacklevel=2
        )
    where, counts = _counts_of(rna, setup.rna_layer, f"mod[{setup.rna!r}].")
    protein_where, protein_counts = _counts_of(prot, setup.protein_layer, f"mod[{setup.proteins!r}].")
    measured = as_dense_counts(protein_counts, protein_where, prot.obs_names, prot.var_names)
    protein = np.zeros((rna.n_obs, prot.n_vars), np.float32)
    position = prot.obs_names.get_indexer(rna.obs_names)
    protein[position >= 0] = measured[position[position >= 0]]
    return _Tables(
        names=rna.obs_names,
        obs=_joint_obs(mdata, rna, prot),
        rna=as_count_rows(counts, where, rna.obs_names, rna.var_names),
        genes=rna.var_names,
        var=rna.var,
        protein=protein,
        proteins=prot.var_names,
    )


def _joint_obs(mdata: MuData, rna: AnnData, prot: AnnData) -> pd.DataFrame:
    """Columns of the RNA modality, then of the whole object, then of the proteins: the first that has a name wins."""
    obs: pd.DataFrame = rna.obs.copy()
    for other in (mdata.obs, prot.obs):
        for column in other.columns.difference(obs.columns):
            obs[column] = other[column].reindex(obs.index)
    return obs


def _counts_of(adata: AnnData, layer: str | None, prefix: str) -> tuple[str, Any]:
    if layer is None:
        return f"{prefix}X", adata.X
    if layer not in adata.layers:
        raise RegistrationError(
            f"Expected counts in {prefix}layers[{layer!r}], found the layers {_listed(adata.layers.keys())}; name "
            "one of them."
        )
    return f"{prefix}layers[{layer!r}]", adata.layers[layer]


def _protein_names(adata: AnnData, matrix: Any, setup: Setup) -> pd.Index:
    if setup.protein_names_uns_key is not None:
        if setup.protein_names_uns_key not in adata.uns:
            raise RegistrationError(
                f"Expected protein names in uns[{setup.protein_names_uns_key!r}], found the keys "
                f"{_listed(adata.uns.keys())}; name one of them."
            )
        names = np.asarray(adata.uns[setup.protein_names_uns_key]).astype(str)
    elif isinstance(matrix, pd.DataFrame):
        names = matrix.columns.to_numpy().astype(str)
    else:
        names = np.array([f"protein_{i}" for i in range(matrix.shape[1])])
    index: pd.Index = pd.Index(names)
    return index


def _ensembl_ids(var: pd.DataFrame) -> tuple[str, ...] | None:
    """The column of ``var`` that holds Ensembl gene ids for (nearly) every gene, when there is one."""
    for column in var.columns:
        values = var[column].astype(str)
        if values.str.match(r"ENS[A-Z]*G\d{6,}").mean() > 0.9:
            return tuple(values)
    return None


# Codes


def _label_values(obs: pd.DataFrame, setup: Setup) -> pd.Series:
    """Labels as strings, missing where the cell is not labelled."""
    values = obs[setup.labels_key]
    text = values.astype("object").where(values.notna(), None)
    text = text.map(lambda value: None if value is None else str(value))
    return text.where(~text.isin(setup.unlabeled), None)


def _labels(obs: pd.DataFrame, setup: Setup) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if setup.labels_key is None:
        return (), np.full(len(obs), UNLABELLED, np.int64)
    _require_column(obs, setup.labels_key, "label")
    absent = sorted(set(setup.unlabeled) - set(obs[setup.labels_key].astype(str)))
    if absent:
        warnings.warn(
            f"No cell has the label {_listed(absent)}, which was named as 'not labelled': is it spelt so in "
            f"obs[{setup.labels_key!r}]?",
            UserWarning,
            stacklevel=2,
        )
    values = _label_values(obs, setup)
    labels = tuple(sorted(values.dropna().unique()))
    if len(labels) < 2:
        found = "no labelled cell" if not labels else f"only {labels[0]!r}"
        raise RegistrationError(
            f"Expected labelled cells of two types or more in obs[{setup.labels_key!r}], found {found} "
            f"(not counting {_listed(setup.unlabeled)}); name another column, or other values for unlabelled."
        )
    return labels, pd.Index(labels).get_indexer(values.to_numpy(dtype=object)).astype(np.int64)


def _categories(obs: pd.DataFrame, key: str | None, what: str) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if key is None:
        return (_ONE_BATCH,), np.zeros(len(obs), np.int64)
    _require_column(obs, key, what)
    _require_complete(obs, key, what)
    codes, names = pd.factorize(obs[key].astype(str), sort=True)
    return tuple(names), codes.astype(np.int64)


def _known_codes(obs: pd.DataFrame, key: str | None, names: Sequence[str], what: str) -> npt.NDArray[np.int64]:
    if key is None:
        return np.zeros(len(obs), np.int64)
    _require_column(obs, key, what)
    _require_complete(obs, key, what)
    values = obs[key].astype(str)
    codes = pd.Index(names).get_indexer(pd.Index(values))
    if (codes < 0).any():
        raise RegistrationError(
            f"Expected {what} values that the model knows ({_listed(names)}), found "
            f"{_listed(values[codes < 0].unique())} in obs[{key!r}]; map new batches through an exported bundle."
        )
    return codes.astype(np.int64)


def _require_column(obs: pd.DataFrame, key: str, what: str) -> None:
    if key not in obs:
        raise RegistrationError(
            f"Expected a {what} column obs[{key!r}], found the columns {_listed(obs.columns)}; name one of them."
        )


def _require_complete(obs: pd.DataFrame, key: str, what: str) -> None:
    missing = int(obs[key].isna().sum())
    if missing:
        raise RegistrationError(
            f"Expected a {what} for every cell in obs[{key!r}], found {missing} cells without; fill them in, or "
            "leave them out."
        )


def _measured_by(
    panel: npt.NDArray[np.int64],
    n_panels: int,
    protein: npt.NDArray[np.float32],
    has_proteins: npt.NDArray[np.bool_],
    override_missing: bool,
) -> npt.NDArray[np.bool_]:
    """Which panel measured which protein, (panels, proteins): one that is zero in all of a panel's cells was not."""
    measured = np.zeros((n_panels, protein.shape[1]), bool)
    for code in range(n_panels):
        members = (panel == code) & has_proteins
        measured[code] = members.any() if override_missing else (protein[members] > 0).any(axis=0)
    return measured


def _positions(found: pd.Index, wanted: Sequence[str], what: str) -> npt.NDArray[np.intp]:
    positions = found.get_indexer(pd.Index(wanted))
    if (positions < 0).any():
        missing = [name for name, position in zip(wanted, positions, strict=True) if position < 0]
        raise RegistrationError(
            f"Expected the model's {len(wanted)} {what}s, found {len(missing)} missing ({_listed(missing)}); add "
            "them, or map these cells through an exported bundle, which does not need all."
        )
    return positions


def _as_rows(mask: npt.NDArray[np.bool_]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(row) for row in mask.tolist())


def _listed(names: Any, most: int = 8) -> str:
    names = [str(name) for name in names]
    shown = ", ".join(names[:most]) or "none"
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown
