"""The parts of an AnnData or a MuData: counts, names and columns, with the same cells in the same order."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from totalanvi.formats.layer_names import layer_names
from totalanvi.training.errors import MissingKeyError, RegistrationError, listed
from totalanvi.training.registration.columns import Columns
from totalanvi.training.registration.counts import as_count_rows, require_unique
from totalanvi.training.registration.protein_counts import ProteinCounts, protein_counts
from totalanvi.training.registration.setup_note import Setup, require_kind
from totalanvi.training.stored_counts import Counts

__all__ = ["Tables", "counts_of", "generated_names", "read_tables"]


_ENSEMBL_ID = r"ENS[A-Z]*G\d{6,}"
_SYMBOL_COLUMNS = {
    *("symbol", "symbols", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "feature_name", "hgnc_symbol"),
    *("genesymbol", "genename", "gene", "name"),
}


@dataclass(frozen=True)
class Tables:
    """The parts of one data object, cells aligned."""

    columns: Columns
    rna: Counts
    """Counts, (cells, genes)."""
    genes: pd.Index
    var: pd.DataFrame
    """What the data says of its genes."""
    protein: ProteinCounts
    """Counts, (cells, proteins), and which there are."""
    proteins: pd.Index
    proteins_are_named: bool = True
    """Whether the data names its proteins; otherwise their names are `generated_names`."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.columns.cells)

    @property
    def ensembl_ids(self) -> tuple[str, ...] | None:
        """Ensembl ids of the genes: the column of ``var`` that holds one for (nearly) every gene, if there is such."""
        for column in self.var.columns:
            values = self.var[column].astype(str)
            if values.str.match(_ENSEMBL_ID).mean() > 0.9:
                return tuple(values)
        return None

    @property
    def gene_symbols(self) -> tuple[str, ...] | None:
        """Symbols of genes that are named by Ensembl ids: the first column of ``var`` that is called as such, if any.

        Nothing stands where a symbol is missing.
        """
        if not self.genes.astype(str).str.match(_ENSEMBL_ID).mean() > 0.9:
            return None
        column = next((column for column in self.var.columns if str(column).casefold() in _SYMBOL_COLUMNS), None)
        if column is None:
            return None
        symbols = self.var[column].astype(object)
        return tuple(str(symbol) for symbol in symbols.where(symbols.notna(), ""))


def read_tables(data: AnnData | MuData, setup: Setup, may_lack_proteins: bool = False) -> Tables:
    """Read the parts that ``setup`` tells of.

    Parameters
    ----------
    data
        Object of the kind that was set up.
    setup
        Where its parts are.
    may_lack_proteins
        Whether data without the protein table, or modality, is read as one with no protein.

    Raises
    ------
    MissingKeyError
        For a table, a layer or a modality that is not there.
    RegistrationError
        For another kind of object, or repeated names; of cells, in a MuData alone.
    CountsError
        For values that are not raw counts.
    """
    require_kind(data, setup.kind)
    if isinstance(data, MuData):
        tables = _of_mudata(data, setup, may_lack_proteins)
    else:
        tables = _of_anndata(data, setup, may_lack_proteins)
    # Integers, which an AnnData takes for names with a warning, are texts in every file.
    tables = replace(tables, genes=tables.genes.astype(str), proteins=tables.proteins.astype(str))
    require_unique(tables.genes, "gene")
    require_unique(tables.proteins, "protein")
    return tables


def counts_of(adata: AnnData, layer: str | None, prefix: str = "") -> tuple[str, Any]:
    """Where counts are, for messages, and the counts: those of a layer, or of ``X``.

    Raises
    ------
    MissingKeyError
        When there is no such layer.
    """
    if layer is None:
        return f"{prefix}X", adata.X
    if layer not in layer_names(adata):
        raise MissingKeyError(f"Expected counts in {prefix}layers[{layer!r}], found {found_layers(adata)}.")
    return f"{prefix}layers[{layer!r}]", adata.layers[layer]


def found_layers(adata: AnnData) -> str:
    """Say which layers there are in the place of one that is not, and what to do.

    Examples
    --------
    >>> found_layers(AnnData(np.eye(2), layers={"counts": np.eye(2)}))
    'the layers counts; name one of them'
    """
    names = layer_names(adata)
    return f"the layers {listed(names)}; name one of them" if names else "no layers; add this one, or name none"


def generated_names(n_proteins: int) -> list[str]:
    """Names of proteins that come without."""
    return [f"protein_{i}" for i in range(n_proteins)]


def _of_anndata(adata: AnnData, setup: Setup, may_lack_proteins: bool) -> Tables:
    if not adata.obs_names.is_unique:
        # Nothing here is looked up by the name of a cell; a MuData aligns its modalities by them.
        repeated = listed(adata.obs_names[adata.obs_names.duplicated()].unique(), 3)
        warnings.warn(
            f"Cell names are repeated ({repeated}), and so they are in results; call obs_names_make_unique() to tell "
            "these cells apart.",
            UserWarning,
            stacklevel=2,
        )
    where, counts = counts_of(adata, setup.rna_layer)
    rna = as_count_rows(counts, where, adata.obs_names, adata.var_names)
    columns = Columns.of(adata, setup)
    if setup.proteins not in adata.obsm:
        if may_lack_proteins:
            nothing = ProteinCounts.none(adata.n_obs)
            return Tables(columns, rna, adata.var_names, adata.var, nothing, pd.Index([], dtype=object))
        raise MissingKeyError(
            f"Expected protein counts in obsm[{setup.proteins!r}], found the keys "
            f"{listed(adata.obsm.keys())}; name one of them, or add the protein counts under this key."
        )
    matrix = adata.obsm[setup.proteins]
    proteins, named = _protein_names(adata, matrix, setup)
    protein = protein_counts(matrix, f"obsm[{setup.proteins!r}]", adata.obs_names, proteins, columns, setup)
    return Tables(columns, rna, adata.var_names, adata.var, protein, proteins, named)


def _of_mudata(mdata: MuData, setup: Setup, may_lack_proteins: bool) -> Tables:
    lacks_proteins = may_lack_proteins and setup.proteins not in mdata.mod
    for modality in (setup.rna,) if lacks_proteins else (setup.rna, setup.proteins):
        if modality not in mdata.mod:
            raise MissingKeyError(
                f"Expected a modality {modality!r}, found {listed(mdata.mod.keys())}; name one of them in `modalities`"
                ", or add the counts under this name."
            )
    rna = mdata.mod[setup.rna]
    require_unique(rna.obs_names, "cell")
    where, counts = counts_of(rna, setup.rna_layer, f"mod[{setup.rna!r}].")
    columns = Columns.of(mdata, setup)
    if lacks_proteins:
        protein, proteins = ProteinCounts.none(rna.n_obs), pd.Index([], dtype=object)
    else:
        prot = mdata.mod[setup.proteins]
        protein, proteins = _proteins_of(prot, columns, setup), prot.var_names
    return Tables(
        columns=columns,
        rna=as_count_rows(counts, where, rna.obs_names, rna.var_names),
        genes=rna.var_names,
        var=rna.var,
        protein=protein,
        proteins=proteins,
    )


def _proteins_of(prot: AnnData, columns: Columns, setup: Setup) -> ProteinCounts:
    """Protein counts of the cells that have RNA, (cells, proteins)."""
    require_unique(prot.obs_names, "cell")
    without_rna = int((~prot.obs_names.isin(columns.cells)).sum())
    if without_rna:
        warnings.warn(
            f"{without_rna} cells have no RNA and are left out: the model starts from RNA.", UserWarning, stacklevel=2
        )
    where, counts = counts_of(prot, setup.protein_layer, f"mod[{setup.proteins!r}].")
    return protein_counts(counts, where, prot.obs_names, prot.var_names, columns, setup)


def _protein_names(adata: AnnData, matrix: Any, setup: Setup) -> tuple[pd.Index, bool]:
    """Names of the columns of ``matrix``, and whether the data gives them."""
    key = setup.protein_names_uns_key
    if key is not None:
        if key not in adata.uns:
            raise MissingKeyError(
                f"Expected protein names in uns[{key!r}], found the keys {listed(adata.uns.keys())}; name one of them, "
                "or add the names under this key."
            )
        names = np.asarray(adata.uns[key]).astype(str)
        if names.shape != (matrix.shape[1],):
            raise RegistrationError(
                f"Expected a name for each of the {matrix.shape[1]} proteins in uns[{key!r}], found {names.size}; name "
                "each once."
            )
        return pd.Index(names, dtype=object), True
    if isinstance(matrix, pd.DataFrame):
        return pd.Index(matrix.columns.to_numpy().astype(str), dtype=object), True
    return pd.Index(generated_names(matrix.shape[1]), dtype=object), False
