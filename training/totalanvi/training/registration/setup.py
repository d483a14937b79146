"""``setup_anndata`` and ``setup_mudata``: saying where the parts of a reference are.

Names, meaning and order of the arguments are those of scvi-tools 1.5, whose `TOTALVI` and `TOTALANVI` differ in the
order of those of ``setup_mudata``. What is written on the object is one note (`setup_note`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from anndata import AnnData
from mudata import MuData

from totalanvi.training.checks import as_names, require_texts, require_type
from totalanvi.training.errors import MissingKeyError, RegistrationError, listed
from totalanvi.training.registration.codes import as_values
from totalanvi.training.registration.columns import COLUMN_ARGUMENTS, Columns
from totalanvi.training.registration.setup_note import COUNT_ARGUMENTS, Setup, write_setup
from totalanvi.training.registration.tables import counts_of

__all__ = ["LabelledSetUp", "SetUp"]


class SetUp:
    """The two ways in of `TOTALVI`."""

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        protein_expression_obsm_key: str,
        protein_names_uns_key: str | None = None,
        batch_key: str | None = None,
        panel_key: str | None = None,
        layer: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | Sequence[str] | None = None,
    ) -> None:
        """Note on ``adata`` where its parts are; nothing else of it changes.

        Parameters
        ----------
        adata
            Cells by genes, raw counts.
        protein_expression_obsm_key
            Key in ``obsm`` of the raw protein counts, (cells, proteins): a DataFrame, an array or a sparse matrix. A
            cell whose row is zero or NaN throughout was not measured; nor was a protein in a panel that has NaN for it.
        protein_names_uns_key
            Key in ``uns`` of the protein names. By default the columns of the DataFrame, or else ``protein_0``,
            ``protein_1`` and so on.
        batch_key
            Column of ``obs`` with each cell's batch; one batch by default.
        panel_key
            Column of ``obs`` with the protein panel that each cell was measured with; its batch by default. A protein
            that is zero, or NaN, throughout a panel counts as missing there.
        layer
            Layer of the raw RNA counts; ``X`` by default.
        size_factor_key
            Column of ``obs`` with each cell's size factor, above 0: the expected total of its RNA counts, on which the
            decoder's proportions are scaled. By default the library size takes its place.
        categorical_covariate_keys
            Columns of ``obs`` with further categories whose effect is to be removed, such as donor or protocol.
        continuous_covariate_keys
            Columns of ``obs`` with numbers whose effect is to be removed, such as the share of mitochondrial counts.
            They enter the network as they are: scale large ones to values around 1.
        labels_key
            Column of ``obs`` with the cell types. `TOTALANVI` needs it.
        unlabeled_category
            Value or values of ``labels_key`` that mean "not labelled". Missing values always do.

        Raises
        ------
        MissingKeyError
            For keys that are not there.
        RegistrationError
            For another kind of object.
        ArgumentError
            For names that are no text, and covariates that are given as one.

        Examples
        --------
        >>> TOTALVI.setup_anndata(adata, "protein_expression", batch_key="batch")  # doctest: +SKIP
        """
        require_type("adata", adata, AnnData, "call setup_mudata for a MuData", RegistrationError)
        require_type("protein_expression_obsm_key", protein_expression_obsm_key, str, "name the counts in obsm")
        require_texts(protein_names_uns_key=protein_names_uns_key, layer=layer)
        setup = Setup(
            kind="anndata",
            proteins=protein_expression_obsm_key,
            rna_layer=layer,
            protein_names_uns_key=protein_names_uns_key,
            batch_key=batch_key,
            panel_key=panel_key,
            labels_key=labels_key,
            unlabeled=as_values(unlabeled_category),
            size_factor_key=size_factor_key,
            categorical_covariate_keys=_keys("categorical_covariate_keys", categorical_covariate_keys),
            continuous_covariate_keys=_keys("continuous_covariate_keys", continuous_covariate_keys),
        )
        for where, key, table in (
            ("obsm", protein_expression_obsm_key, adata.obsm),
            ("uns", protein_names_uns_key, adata.uns),
        ):
            if key is not None and key not in table:
                raise MissingKeyError(
                    f"Expected {where}[{key!r}], found the keys {listed(table.keys())}; name one of them."
                )
        counts_of(adata, layer)
        _require_columns(adata, setup)
        write_setup(adata, setup)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        protein_layer: str | None = None,
        batch_key: str | None = None,
        panel_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        modalities: Mapping[str, str] | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | Sequence[str] | None = None,
    ) -> None:
        """Note on ``mdata`` where its parts are; nothing else of it changes.

        Parameters
        ----------
        mdata
            One modality with RNA counts, one with protein counts. Cells absent from the protein modality were not
            measured; cells absent from the RNA modality are left out.
        rna_layer, protein_layer
            Layers of the raw counts in the two modalities; ``X`` by default.
        batch_key, panel_key, size_factor_key, categorical_covariate_keys, continuous_covariate_keys, labels_key
            Columns as in `setup_anndata`. A column is sought in the ``obs`` of the RNA modality, of the whole object,
            of the protein modality and of the others, in this order, unless ``modalities`` says where it is.
        unlabeled_category
            As in `setup_anndata`.
        modalities
            Which modality holds what, by argument: ``rna_layer`` and ``protein_layer`` have to be named, as in
            ``{"rna_layer": "rna", "protein_layer": "prot"}``; the arguments that name columns may be. Their columns are
            then sought in that modality, and after it in the whole object.

        Raises
        ------
        MissingKeyError
            For modalities, layers or columns that are not there.
        RegistrationError
            When the two modalities are not named, or others than these arguments are; for another kind of object.
        ArgumentError
            For names that are no text, and covariates that are given as one.

        Examples
        --------
        >>> from totalanvi.training import TOTALVI, simulate
        >>> mdata = simulate(n_cells=50, seed=0)
        >>> TOTALVI.setup_mudata(mdata, batch_key="batch", modalities={"rna_layer": "rna", "protein_layer": "prot"})
        """
        require_type("mdata", mdata, MuData, "call setup_anndata for an AnnData", RegistrationError)
        require_texts(rna_layer=rna_layer, protein_layer=protein_layer)
        named = _modalities(mdata, modalities)
        setup = Setup(
            kind="mudata",
            rna=named["rna_layer"],
            proteins=named["protein_layer"],
            rna_layer=rna_layer,
            protein_layer=protein_layer,
            batch_key=batch_key,
            panel_key=panel_key,
            labels_key=labels_key,
            unlabeled=as_values(unlabeled_category),
            size_factor_key=size_factor_key,
            categorical_covariate_keys=_keys("categorical_covariate_keys", categorical_covariate_keys),
            continuous_covariate_keys=_keys("continuous_covariate_keys", continuous_covariate_keys),
            modalities={argument: name for argument, name in named.items() if argument not in COUNT_ARGUMENTS},
        )
        for argument, layer in (("rna_layer", rna_layer), ("protein_layer", protein_layer)):
            counts_of(mdata.mod[named[argument]], layer, f"mod[{named[argument]!r}].")
        _require_columns(mdata, setup)
        write_setup(mdata, setup)


class LabelledSetUp(SetUp):
    """The two ways in of `TOTALANVI`: ``setup_mudata`` takes the labels before the modalities."""

    @classmethod
    def setup_mudata(  # type: ignore[override]  # the order of scvi-tools
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        protein_layer: str | None = None,
        batch_key: str | None = None,
        panel_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | Sequence[str] | None = None,
        modalities: Mapping[str, str] | None = None,
    ) -> None:
        """Note on ``mdata`` where its parts are; nothing else of it changes.

        Parameters
        ----------
        mdata, rna_layer, protein_layer, batch_key, panel_key, size_factor_key, modalities
            As in `TOTALVI.setup_mudata`, the covariates too.
        labels_key
            Column with the cell types.
        unlabeled_category
            Value or values of ``labels_key`` that mean "not labelled". Missing values always do.

        Raises
        ------
        TrainingError
            As `TOTALVI.setup_mudata`.

        Examples
        --------
        >>> from totalanvi.training import TOTALANVI, simulate
        >>> mdata = simulate(n_cells=50, seed=0)
        >>> modalities = {"rna_layer": "rna", "protein_layer": "prot"}
        >>> TOTALANVI.setup_mudata(mdata, batch_key="batch", labels_key="cell_type", modalities=modalities)
        """
        super().setup_mudata(
            mdata,
            rna_layer=rna_layer,
            protein_layer=protein_layer,
            batch_key=batch_key,
            panel_key=panel_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            modalities=modalities,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
        )


def _keys(argument: str, keys: Sequence[str] | None) -> tuple[str, ...]:
    columns = [] if keys is None else as_names(argument, keys, "columns")
    for column in columns:
        require_type(argument, column, str, "give the names of columns")
    return tuple(columns)


def _modalities(mdata: MuData, modalities: Mapping[str, str] | None) -> dict[str, str]:
    """Modalities by argument; those that are `None` are not named."""
    modalities = {} if modalities is None else modalities
    require_type("modalities", modalities, Mapping, "say which modality holds what, by argument")
    named = {argument: name for argument, name in modalities.items() if name is not None}
    require_texts(**{f"modalities[{argument!r}]": name for argument, name in named.items()})
    if not set(COUNT_ARGUMENTS) <= named.keys():
        raise RegistrationError(
            f"Expected modalities={{'rna_layer': ..., 'protein_layer': ...}}, found {modalities}; say which of "
            f"{', '.join(mdata.mod)} holds RNA and which holds proteins."
        )
    allowed = (*COUNT_ARGUMENTS, *COLUMN_ARGUMENTS)
    if unknown := named.keys() - set(allowed):
        raise RegistrationError(
            f"modalities: expected arguments out of {', '.join(allowed)}, found {listed(sorted(unknown))}; leave these "
            "out."
        )
    for name in named.values():
        if name not in mdata.mod:
            raise MissingKeyError(
                f"Expected a modality {name!r}, found {listed(mdata.mod)}; name one of them (modalities=, --proteins)."
            )
    if named["rna_layer"] == named["protein_layer"]:
        raise RegistrationError(
            f"modalities: expected one modality for RNA and another for proteins, found {named['rna_layer']!r} for "
            f"both; name two of {listed(mdata.mod)}."
        )
    return named


def _require_columns(data: AnnData | MuData, setup: Setup) -> None:
    """Refuse columns that are not there, and question those that are there twice."""
    columns = Columns.of(data, setup)
    for argument in COLUMN_ARGUMENTS:
        keys = getattr(setup, argument)
        for key in keys if isinstance(keys, tuple) else (keys,):
            if key is not None:
                columns.require(key, argument)
                if columns.is_ambiguous(key, argument):
                    warnings.warn(
                        f"The whole object and its modality {setup.rna!r} hold different columns {key!r}: the "
                        f"modality's is used. Name it, with modalities={{{argument!r}: {setup.rna!r}, ...}}, if it is "
                        "meant, or remove the column there if it is not.",
                        UserWarning,
                        stacklevel=3,
                    )
