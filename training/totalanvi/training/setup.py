"""``setup_anndata`` and ``setup_mudata``: saying where the parts of a reference are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anndata import AnnData
from mudata import MuData

from totalanvi.training.errors import RegistrationError
from totalanvi.training.registration import Setup, write_setup

__all__ = ["SetUp", "as_values"]


class SetUp:
    """The two ways in, shared by all models."""

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        protein_expression_obsm_key: str,
        protein_names_uns_key: str | None = None,
        batch_key: str | None = None,
        panel_key: str | None = None,
        layer: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | Sequence[str] | None = None,
    ) -> None:
        """Note on ``adata`` where its parts are.

        Parameters
        ----------
        adata
            Cells by genes, raw counts.
        protein_expression_obsm_key
            Key in ``obsm`` of the raw protein counts, (cells, proteins): a DataFrame, an array or a sparse matrix. A
            cell whose row is zero or NaN throughout was not measured.
        protein_names_uns_key
            Key in ``uns`` of the protein names, where ``obsm`` holds no DataFrame.
        batch_key, panel_key, labels_key
            Columns of ``obs``: batch; protein panel (the batch by default); cell type.
        layer
            Layer of the raw RNA counts; ``X`` by default.
        unlabeled_category
            Value or values of ``labels_key`` that mean "not labelled". Missing values always do.

        Raises
        ------
        RegistrationError
            For keys that are not there.
        """
        _require_keys(adata, obsm=[protein_expression_obsm_key], obs=[batch_key, panel_key, labels_key])
        write_setup(
            adata,
            Setup(
                kind="anndata",
                proteins=protein_expression_obsm_key,
                rna_layer=layer,
                protein_names_uns_key=protein_names_uns_key,
                batch_key=batch_key,
                panel_key=panel_key,
                labels_key=labels_key,
                unlabeled=as_values(unlabeled_category),
            ),
        )

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        protein_layer: str | None = None,
        batch_key: str | None = None,
        panel_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | Sequence[str] | None = None,
        modalities: dict[str, str] | None = None,
    ) -> None:
        """Note on ``mdata`` where its parts are.

        Parameters
        ----------
        mdata
            One modality with RNA counts, one with protein counts. Cells absent from the protein modality were not
            measured; cells absent from the RNA modality are left out.
        rna_layer, protein_layer
            Layers of the raw counts in the two modalities; ``X`` by default.
        batch_key, panel_key, labels_key
            Columns of the RNA modality's ``obs``, of the whole object's or of the protein modality's, sought in
            this order.
        unlabeled_category
            As in `setup_anndata`.
        modalities
            Which modality holds what: ``{"rna_layer": "rna", "protein_layer": "prot"}``.

        Raises
        ------
        RegistrationError
            When modalities are not named.
        """
        if not modalities or not {"rna_layer", "protein_layer"} <= modalities.keys():
            raise RegistrationError(
                f"Expected modalities={{'rna_layer': ..., 'protein_layer': ...}}, found {modalities}; say which of "
                f"{', '.join(mdata.mod)} holds RNA and which holds proteins."
            )
        write_setup(
            mdata,
            Setup(
                kind="mudata",
                rna=modalities["rna_layer"],
                proteins=modalities["protein_layer"],
                rna_layer=rna_layer,
                protein_layer=protein_layer,
                batch_key=batch_key,
                panel_key=panel_key,
                labels_key=labels_key,
                unlabeled=as_values(unlabeled_category),
            ),
        )


def as_values(category: str | Iterable[object] | None) -> tuple[str, ...]:
    """Values that mean "not labelled" as strings, the form in which labels are compared."""
    if category is None:
        return ()
    several = isinstance(category, Iterable) and not isinstance(category, str)
    return tuple(str(value) for value in (category if several else (category,)))


def _require_keys(adata: AnnData, obsm: Sequence[str], obs: Sequence[str | None]) -> None:
    for where, keys, table in (("obsm", obsm, adata.obsm), ("obs", obs, adata.obs)):
        for key in keys:
            if key is not None and key not in table:
                there = ", ".join(map(str, table.keys())) or "none"
                raise RegistrationError(f"Expected {where}[{key!r}], found the keys {there}; name one of them.")
