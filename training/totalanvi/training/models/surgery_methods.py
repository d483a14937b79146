"""Queries with training: prepare a query's features, give a trained model room for its batches, train those."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pandas as pd
from anndata import AnnData
from mudata import MuData

from totalanvi.training.checks import as_path, require_flags
from totalanvi.training.devices import chosen_device
from totalanvi.training.errors import ArgumentError, listed
from totalanvi.training.models.saving import SavableModel
from totalanvi.training.network.surgery import Freezing, extend, freeze, learn_library_prior
from totalanvi.training.registration.extend import extend_registry
from totalanvi.training.registration.query_features import with_features, with_features_of_modalities
from totalanvi.training.registration.setup_note import Data, require_set_up_alike

__all__ = ["QueryMethods"]


class QueryMethods(SavableModel):
    """A reference's model, adapted to a query by architecture surgery."""

    @classmethod
    def prepare_query_anndata(
        cls,
        adata: AnnData,
        reference_model: str | Path | SavableModel,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> AnnData | pd.Index | None:
        """Bring a query's genes into the reference's order, padded with zeros where the query has none.

        Parameters
        ----------
        adata
            The query, cells by genes. Protein counts in ``obsm`` are left alone: `load_query_data` matches them by
            name.
        reference_model
            A model, or the folder that it was saved to.
        return_reference_var_names
            Return the reference's genes instead.
        inplace
            Change ``adata``, or else return a new object.

        Returns
        -------
        AnnData, pandas.Index or None

        Raises
        ------
        RegistrationError
            When the query has no gene of the reference.
        CheckpointError
            When the folder holds no model.
        ArgumentError
            For a reference that is neither model nor folder.

        Examples
        --------
        >>> TOTALANVI.prepare_query_anndata(query, "checkpoint/")  # doctest: +SKIP
        >>> model = TOTALANVI.load_query_data(query, "checkpoint/")  # doctest: +SKIP
        >>> model.train(max_epochs=100)  # doctest: +SKIP
        """
        require_flags(return_reference_var_names=return_reference_var_names, inplace=inplace)
        genes = pd.Index(cls._as_model(reference_model).registry.genes)
        if return_reference_var_names:
            return genes
        prepared = with_features(adata, genes)
        if not inplace:
            return prepared
        adata._init_as_actual(prepared)
        return None

    @classmethod
    def prepare_query_mudata(
        cls,
        mdata: MuData,
        reference_model: str | Path | SavableModel,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> MuData | dict[str, pd.Index] | None:
        """Bring a query's genes and proteins into the reference's order, padded with zeros where the query has none.

        Parameters
        ----------
        mdata
            The query, with the reference's RNA modality and, if proteins were measured, its protein modality. Other
            modalities are left out.
        reference_model, return_reference_var_names, inplace
            As in `prepare_query_anndata`; the names come by modality.

        Returns
        -------
        MuData, dict of pandas.Index or None

        Raises
        ------
        RegistrationError, CheckpointError, ArgumentError
            As `prepare_query_anndata`; also when the reference was an AnnData.

        Examples
        --------
        >>> TOTALANVI.prepare_query_mudata(query, "checkpoint/")  # doctest: +SKIP
        """
        require_flags(return_reference_var_names=return_reference_var_names, inplace=inplace)
        model = cls._as_model(reference_model)
        setup, registry = model._setup, model.registry
        if setup.rna is None or setup.proteins is None:
            raise ArgumentError(
                "Expected a reference that was a MuData, found one that was an AnnData; put the query into an AnnData, "
                "and prepare it with prepare_query_anndata()."
            )
        names = {setup.rna: pd.Index(registry.genes), setup.proteins: pd.Index(registry.proteins)}
        if return_reference_var_names:
            return names
        prepared = with_features_of_modalities(mdata, names)
        if not inplace:
            return prepared
        mdata._init_as_actual(prepared)
        return None

    @classmethod
    def load_query_data(
        cls,
        adata: Data | None = None,
        reference_model: str | Path | SavableModel | None = None,
        registry: None = None,
        inplace_subset_query_vars: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
        unfrozen: bool = False,
        freeze_dropout: bool = False,
        freeze_expression: bool = True,
        freeze_decoder_first_layer: bool = True,
        freeze_batchnorm_encoder: bool = True,
        freeze_batchnorm_decoder: bool = True,
        freeze_classifier: bool = True,
        transfer_batch: bool = True,
    ) -> Self:
        """Give a reference's model room for a query's batches; `train` then fits what is new, and nothing else.

        The query may lack proteins, or have another panel: proteins are matched by name, and what it did not measure is
        missing. Labels that it has are used, if the model knows them. What the reference's own batches are encoded and
        decoded with stays exactly as it is, unless a ``freeze_...`` is set to false.

        Parameters
        ----------
        adata
            The query, with the reference's genes (`prepare_query_anndata` pads) and columns. A batch that the reference
            has, too, is taken for that batch, and nothing of it is trained: name other batches otherwise.
        reference_model
            A model, or the folder that it was saved to. It is not changed.
        registry
            Not taken: a query comes with its cells.
        inplace_subset_query_vars
            Leave genes that the reference does not have out of ``adata``.
        accelerator, device
            Where to put the network, as in `load`.
        unfrozen, freeze_dropout, freeze_expression, freeze_decoder_first_layer, freeze_classifier
            As `totalanvi.training.network.surgery.Freezing` has them.
        freeze_batchnorm_encoder, freeze_batchnorm_decoder
            Keep weights and statistics of batch norm. Unlike in scvi-tools the decoders' are kept as well: set free,
            they change what the reference decodes to.
        transfer_batch
            Whether the query may have batches that the reference does not have.

        Returns
        -------
        TOTALVI or TOTALANVI
            Not trained yet; saves, loads and exports like any other.

        Raises
        ------
        RegistrationError
            When genes are missing, or a column is.
        CheckpointError
            When the folder holds no model of this class.
        ArgumentError
            When query or reference are missing, the reference is a model of another class or is not trained, or the
            query has batches that it may not.

        Examples
        --------
        >>> model = TOTALANVI.load_query_data(query, "checkpoint/")  # doctest: +SKIP
        >>> model.train(max_epochs=100, plan_kwargs={"weight_decay": 0.0})  # doctest: +SKIP
        >>> query.obs["cell_type"] = model.predict()  # doctest: +SKIP

        References
        ----------
        Lotfollahi et al., Nature Biotechnology 40 (2022), scArches.
        """
        if adata is None or reference_model is None:
            missing = "query (adata)" if adata is None else "reference_model"
            raise ArgumentError(f"Expected a query and a reference's model, found no {missing}; give both.")
        if registry is not None:
            raise ArgumentError("registry: expected a query with its cells, found a registry; give `adata` alone.")
        require_flags(inplace_subset_query_vars=inplace_subset_query_vars, transfer_batch=transfer_batch)
        reference, target = cls._as_model(reference_model), chosen_device(accelerator, device)
        if type(reference).__name__ != cls.__name__:
            kind = type(reference).__name__
            raise ArgumentError(
                f"reference_model: expected a {cls.__name__}, found a {kind}; call {kind}.load_query_data(...)."
            )
        if not reference.is_trained:
            raise ArgumentError("Expected a trained reference model, found one that is not; call its train() first.")
        freezing = Freezing(
            unfrozen,
            freeze_dropout,
            freeze_expression,
            freeze_decoder_first_layer,
            freeze_batchnorm_encoder,
            freeze_batchnorm_decoder,
            freeze_classifier,
        )
        if inplace_subset_query_vars:
            cls._subset(adata, reference)
        model = cls.__new__(cls)
        model._take_query(adata, reference)
        new = model.registry.batches[len(reference.registry.batches) :]
        if new and not transfer_batch:
            raise ArgumentError(
                f"transfer_batch=False: expected batches of the reference ({listed(reference.registry.batches)}), "
                f"found {listed(new)}; rename them, or allow new ones."
            )
        freeze(model.module, reference.module.dims, freezing)
        model.to_device(target)
        return model

    @classmethod
    def _as_model(cls, reference: str | Path | SavableModel) -> SavableModel:
        if isinstance(reference, SavableModel):
            return reference
        return cls.load(as_path("reference_model", reference, "a model, or the folder of one"), adata=False)

    @staticmethod
    def _subset(data: Data, reference: SavableModel) -> None:
        setup = reference._setup
        rna = data.mod[setup.rna] if isinstance(data, MuData) and setup.rna in data.mod else data
        if isinstance(rna, AnnData):
            genes = pd.Index(reference.registry.genes)
            rna._inplace_subset_var(genes[genes.isin(rna.var_names)])

    def _take_query(self, data: Data, reference: SavableModel) -> None:
        """Register a query beside the reference, and extend the reference's network for it."""
        require_set_up_alike(data, reference._setup)
        self.seed, self.was_pretrained = reference.seed, reference.was_pretrained
        self._setup = reference._setup
        self.registry, cells = extend_registry(reference.registry, data, self._setup)
        self._keep(data, cells)
        self.module = extend(reference.module, self.registry.dimensions)
        learn_library_prior(self.module, cells, reference.module.dims)
        self._tell_module()
        self.history = {}
        self._training = {}
        self._adapted = reference._training
        self._loaded_sample = reference._sample()
