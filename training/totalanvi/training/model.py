"""`TOTALVI`: register data, train, ask, save."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from totalanvi.training.background import empirical_background_prior
from totalanvi.training.checkpoint import (
    Checkpoint,
    package_versions,
    read_checkpoint,
    require_writable,
    sample_reference,
    write_checkpoint,
)
from totalanvi.training.config import Augmentation, ModelConfig, TrainingConfig
from totalanvi.training.data import Cells
from totalanvi.training.errors import ArgumentError, CheckpointError, RegistrationError
from totalanvi.training.fit import fit
from totalanvi.training.registration import Setup, read_cells, read_setup, register, write_setup
from totalanvi.training.registry import Registry
from totalanvi.training.results.expression import ExpressionOptions, foreground_probability, normalized_expression
from totalanvi.training.results.latent import latent_representation
from totalanvi.training.split import Split, split_cells
from totalanvi.training.vae import TotalVAE

__all__ = ["TOTALVI"]

_logger = logging.getLogger(__name__)
_BATCH_SIZE = 256
_MIN_PROTEINS_FOR_EMPIRICAL_PRIOR = 10

Data: TypeAlias = AnnData | MuData


class TOTALVI:
    """Total variational inference: a joint model of RNA and surface-protein counts.

    Parameters
    ----------
    adata
        AnnData or MuData that `setup_anndata` or `setup_mudata` has registered.
    n_latent
        Dimensions of the latent space.
    gene_likelihood
        ``"nb"`` or ``"zinb"``.
    latent_distribution
        ``"normal"`` or ``"ln"``, the logistic normal.
    empirical_protein_background_prior
        Start the prior of the protein background from the data. By default, where there are more than ten proteins.
    override_missing_proteins
        Take a protein that is zero throughout a panel as measured. Otherwise it counts as missing there.
    seed
        Seed of the initial weights.
    **model_kwargs
        Further options of `totalanvi.training.ModelConfig`.

    Raises
    ------
    RegistrationError
        When the data is not registered, or cannot be.
    ArgumentError
        For options that are unknown or out of range.

    Examples
    --------
    >>> from totalanvi.training import TOTALVI, simulate
    >>> mdata = simulate(n_cells=500, seed=0)
    >>> TOTALVI.setup_mudata(mdata, batch_key="batch", modalities={"rna_layer": "rna", "protein_layer": "prot"})
    >>> model = TOTALVI(mdata, n_latent=10)
    >>> model.train(max_epochs=5)
    >>> model.get_latent_representation().shape
    (500, 10)

    References
    ----------
    Gayoso, Steier et al.: Joint probabilistic modeling of single-cell multi-omic data with totalVI. Nature Methods 18
    (2021).
    """

    _module_class: ClassVar[type[TotalVAE]] = TotalVAE

    def __init__(
        self,
        adata: Data,
        n_latent: int = 20,
        gene_likelihood: Literal["nb", "zinb"] = "nb",
        latent_distribution: Literal["normal", "ln"] = "normal",
        empirical_protein_background_prior: bool | None = None,
        override_missing_proteins: bool = False,
        seed: int = 0,
        **model_kwargs: Any,
    ):
        config = _model_config(
            n_latent=n_latent,
            gene_likelihood=gene_likelihood,
            latent_distribution=latent_distribution,
            **model_kwargs,
        )
        self._setup = read_setup(adata)
        self.adata: Data | None = adata
        self.registry, self._cells = register(adata, self._setup, override_missing_proteins)
        self._require_labels()
        if self.registry.has_missing_proteins:
            _logger.info("Some panels lack some proteins: they are treated as missing there, not as zero.")
        empirical = (
            len(self.registry.proteins) > _MIN_PROTEINS_FOR_EMPIRICAL_PRIOR
            if empirical_protein_background_prior is None
            else empirical_protein_background_prior
        )
        background = empirical_background_prior(self._cells, len(self.registry.panels), seed) if empirical else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module = self._module_class(
                self.registry.dimensions, config, background, _library_prior(self._cells, len(self.registry.batches))
            )
        self._reset_training(seed)

    def _reset_training(self, seed: int) -> None:
        self.seed = seed
        self.is_trained = False
        self.history: dict[str, pd.DataFrame] = {}
        self._split: Split | None = None
        self._training: dict[str, Any] = {}

    def _require_labels(self) -> None:
        """TotalANVI refuses data without labels here."""

    # Registration

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
                unlabeled=_as_values(unlabeled_category),
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
                f"expected modalities={{'rna_layer': ..., 'protein_layer': ...}}, found {modalities}: say which of "
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
                unlabeled=_as_values(unlabeled_category),
            ),
        )

    # Training

    def train(
        self,
        max_epochs: int | None = None,
        lr: float = 4e-3,
        accelerator: str = "auto",
        devices: Any = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int = 256,
        early_stopping: bool = True,
        reduce_lr_on_plateau: bool = True,
        n_steps_kl_warmup: int | None = None,
        n_epochs_kl_warmup: int | None = None,
        adversarial_classifier: bool | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        external_indexing: Sequence[npt.NDArray[np.intp]] | None = None,
        augmentation: Augmentation | None = None,
        seed: int | None = None,
        progress: bool = True,
        resume_folder: str | Path | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Passes over the training cells; by default 400, fewer above 20,000 cells.
        lr
            Learning rate.
        accelerator, devices
            As Lightning takes them.
        train_size, validation_size, shuffle_set_split, external_indexing
            Which cells train and which validate; see `totalanvi.training.split`.
        batch_size
            Cells in a mini-batch.
        early_stopping, reduce_lr_on_plateau
            What to do when the validation ELBO stops improving.
        n_steps_kl_warmup, n_epochs_kl_warmup
            Length of the warm-up of the divergences.
        adversarial_classifier
            Train batches to mix; by default where panels lack proteins.
        plan_kwargs
            Further options of `totalanvi.training.TrainingConfig`.
        augmentation
            What is hidden from the encoder while it trains.
        seed
            Seeds the split, the order of cells and all draws; the model's by default.
        progress
            Show a line that counts epochs.
        resume_folder
            Keep the state of the run here after each epoch, and continue from it when it is there.
        **trainer_kwargs
            Further options of Lightning's ``Trainer``.

        Raises
        ------
        ArgumentError
            For options that are unknown or out of range.
        """
        cells = self._reference_cells()
        seed = self.seed if seed is None else seed
        split = split_cells(len(cells), train_size, validation_size, shuffle_set_split, seed, external_indexing)
        options = {
            "max_epochs": _default_epochs(len(cells)) if max_epochs is None else max_epochs,
            "batch_size": batch_size,
            "lr": lr,
            "early_stopping": early_stopping,
            "reduce_lr_on_plateau": reduce_lr_on_plateau,
            "n_steps_kl_warmup": n_steps_kl_warmup,
            "n_epochs_kl_warmup": n_epochs_kl_warmup,
            "adversarial_classifier": (
                self.registry.has_missing_proteins if adversarial_classifier is None else adversarial_classifier
            ),
            "seed": seed,
            **({} if augmentation is None else {"augmentation": augmentation}),
        }
        config = _training_config(options | (plan_kwargs or {}))
        self.history, n_epochs = fit(
            self.module,
            cells,
            split,
            config,
            accelerator=accelerator,
            devices=devices,
            progress=progress,
            resume_folder=None if resume_folder is None else Path(resume_folder),
            **trainer_kwargs,
        )
        self._split = split
        self._training = {
            "options": config.to_dict(),
            "n_epochs": n_epochs,
            "n_cells": len(cells),
            "n_train": len(split.train),
            "n_validation": len(split.validation),
            "n_labelled": int((cells.label >= 0).sum()),
            "data_digest": _digest(self.registry, cells),
        }
        self.is_trained = True

    @property
    def train_indices(self) -> npt.NDArray[np.intp]:
        """Positions of the cells that trained."""
        return self._trained_split().train

    @property
    def validation_indices(self) -> npt.NDArray[np.intp]:
        """Positions of the cells that validated."""
        return self._trained_split().validation

    @property
    def test_indices(self) -> npt.NDArray[np.intp]:
        """Positions of the cells left for a test."""
        return self._trained_split().test

    # Results

    def get_latent_representation(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        batch_size: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Where cells lie in the latent space.

        Parameters
        ----------
        adata
            Cells with the reference's features and columns; the reference itself by default.
        indices
            Positions of the cells wanted; all by default.
        give_mean
            The posterior mean, or else one draw.
        batch_size
            Cells in a mini-batch.

        Returns
        -------
        numpy.ndarray
            (cells, latent).
        """
        cells, _ = self._cells_of(adata, indices)
        return latent_representation(self.module, cells, give_mean, batch_size or _BATCH_SIZE)

    def get_normalized_expression(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | int | Sequence[str | int] | None = None,
        gene_list: Sequence[str] | None = None,
        protein_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1.0,
        n_samples: int = 1,
        sample_protein_mixing: bool = False,
        scale_protein: bool = False,
        include_protein_background: bool = False,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame] | tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Denoised expression: genes as ``library_size · ρ``, proteins as ``(1 − π) α E[β]``.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        transform_batch
            Batch, by name or code, to decode as; several are averaged; each cell's own by default.
        gene_list, protein_list
            Features wanted; all by default, none for an empty list.
        library_size
            Scale of gene expression, or ``"latent"`` for each cell's own library.
        n_samples
            Draws from the posterior.
        sample_protein_mixing
            Draw whether a protein is background instead of weighing it.
        scale_protein
            Make a cell's proteins sum to 1.
        include_protein_background
            Add the background, ``π E[β]``.
        return_mean
            Average over draws; otherwise they are a last axis.
        return_numpy
            Arrays instead of frames.

        Returns
        -------
        genes, proteins
            (cells, genes) and (cells, proteins), with a last axis of samples when ``return_mean`` is false.

        Raises
        ------
        ArgumentError
            For batches or features that the model does not know.
        """
        cells, names = self._cells_of(adata, indices)
        options = ExpressionOptions(
            genes=_chosen(gene_list, self.registry.genes, "gene"),
            proteins=_chosen(protein_list, self.registry.proteins, "protein"),
            decode_as=self._batch_codes(transform_batch),
            n_samples=_at_least_one(n_samples),
            return_mean=return_mean or n_samples == 1,
            library_size=library_size,
            sample_protein_mixing=sample_protein_mixing,
            scale_protein=scale_protein,
            include_protein_background=include_protein_background,
        )
        genes, proteins = normalized_expression(self.module, cells, options, batch_size or _BATCH_SIZE)
        if return_numpy or genes.ndim == 3:
            return genes, proteins
        gene_names = np.asarray(self.registry.genes)[options.genes]
        protein_names = np.asarray(self.registry.proteins)[options.proteins]
        return (
            pd.DataFrame(genes, index=names, columns=gene_names),
            pd.DataFrame(proteins, index=names, columns=protein_names),
        )

    def get_protein_foreground_probability(
        self,
        adata: Data | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | int | Sequence[str | int] | None = None,
        protein_list: Sequence[str] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
    ) -> pd.DataFrame | npt.NDArray[np.float32]:
        """Probability, 1 − π, that a protein's count is more than background.

        Parameters and raises are those of `get_normalized_expression`.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            (cells, proteins), with a last axis of samples when ``return_mean`` is false.
        """
        cells, names = self._cells_of(adata, indices)
        options = ExpressionOptions(
            genes=np.empty(0, np.intp),
            proteins=_chosen(protein_list, self.registry.proteins, "protein"),
            decode_as=self._batch_codes(transform_batch),
            n_samples=_at_least_one(n_samples),
            return_mean=return_mean or n_samples == 1,
        )
        probability = foreground_probability(self.module, cells, options, batch_size or _BATCH_SIZE)
        if return_numpy or probability.ndim == 3:
            return probability
        columns = np.asarray(self.registry.proteins)[options.proteins]
        return pd.DataFrame(probability, index=names, columns=columns)

    # Checkpoints

    def save(self, dir_path: str | Path, overwrite: bool = False) -> None:
        """Write a checkpoint: safetensors and JSON, no pickle.

        Parameters
        ----------
        dir_path
            Folder to make.
        overwrite
            Replace a checkpoint that is there.

        Raises
        ------
        CheckpointError
            When the folder exists and may not be replaced.
        """
        folder = Path(dir_path)
        require_writable(folder, overwrite)
        sample = None
        if self._split is not None and self._cells is not None:
            sample = sample_reference(self._cells, self._split.train, self._split.validation, self.seed)
        write_checkpoint(
            folder,
            Checkpoint(
                kind=type(self).__name__,
                weights=self.module.state_dict(),
                registry=self.registry,
                model=self.module.config.to_dict(),
                training=self._training,
                history={
                    name: {str(epoch): float(value) for epoch, value in frame[name].items()}
                    for name, frame in self.history.items()
                },
                versions=package_versions(),
                sample=sample,
            ),
            overwrite,
        )

    @classmethod
    def load(cls, dir_path: str | Path, adata: Data | None = None) -> Self:
        """Read a checkpoint.

        Parameters
        ----------
        dir_path
            Folder that `save` or ``totalanvi train`` wrote.
        adata
            Data to attach, registered like the reference or with its features and columns; without it, the results need
            data given to them.

        Raises
        ------
        CheckpointError
            When the checkpoint is not whole, or of another class.
        """
        checkpoint = read_checkpoint(Path(dir_path))
        if checkpoint.kind != cls.__name__:
            raise CheckpointError(
                f"expected a checkpoint of {cls.__name__} at {dir_path}, found one of {checkpoint.kind}: load it with "
                f"{checkpoint.kind}.load(...)."
            )
        model = cls.__new__(cls)
        model.registry = checkpoint.registry
        setup = dict(checkpoint.registry.setup)
        model._setup = Setup(**{**setup, "unlabeled": tuple(setup["unlabeled"])})
        model.module = cls._module_class(checkpoint.registry.dimensions, _model_config(**checkpoint.model))
        try:
            model.module.load_state_dict(checkpoint.weights)
        except RuntimeError as error:
            raise CheckpointError(f"the weights in {dir_path} do not fit its config.json: {error}") from error
        model.module.eval()
        model.adata = adata
        model._cells = None if adata is None else read_cells(adata, model._setup, model.registry)
        model._reset_training(int(checkpoint.training.get("options", {}).get("seed", 0)))
        model.is_trained = bool(checkpoint.training)
        model._training = checkpoint.training
        model.history = {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index([int(e) for e in values], name="epoch"))
            for name, values in checkpoint.history.items()
        }
        return model

    # Data and names behind the results

    _cells: Cells | None

    def _reference_cells(self) -> Cells:
        if self._cells is None:
            raise ArgumentError("this model was loaded without data: give `adata`, or load it with `adata=...`.")
        return self._cells

    def _cells_of(self, adata: Data | None, indices: Sequence[int] | None) -> tuple[Cells, pd.Index]:
        """Cells wanted, in model order, with their names."""
        if adata is None:
            cells, source = self._reference_cells(), self.adata
        else:
            cells, source = read_cells(adata, self._setup, self.registry), adata
        assert source is not None
        names = source.mod[self._setup.rna].obs_names if isinstance(source, MuData) else source.obs_names
        if indices is None:
            return cells, names
        positions = np.asarray(indices)
        positions = np.flatnonzero(positions) if positions.dtype == bool else positions.astype(np.intp)
        if len(positions) and (positions.min() < 0 or positions.max() >= len(cells)):
            raise ArgumentError(f"indices must lie within the {len(cells)} cells, found {positions.max()}.")
        return cells[positions], names[positions]

    def _batch_codes(self, batches: str | int | Sequence[str | int] | None) -> list[int | None]:
        if batches is None:
            return [None]
        wanted = [batches] if isinstance(batches, str | int) else list(batches)
        codes: list[int | None] = []
        for batch in wanted:
            known = range(len(self.registry.batches)) if isinstance(batch, int) else self.registry.batches
            if batch not in known:
                raise ArgumentError(
                    f"expected transform_batch among the model's batches ({', '.join(self.registry.batches)}), "
                    f"found {batch!r}."
                )
            codes.append(batch if isinstance(batch, int) else self.registry.batches.index(batch))
        return codes

    def _trained_split(self) -> Split:
        if self._split is None:
            raise ArgumentError("the split of the cells is known after train() alone, in the same Python process.")
        return self._split

    def __repr__(self) -> str:
        """Say what it is and whether it is trained."""
        dims = self.registry.dimensions
        state = "trained" if self.is_trained else "not trained"
        return (
            f"{type(self).__name__}({dims.n_genes} genes, {dims.n_proteins} proteins, {dims.n_batches} batches, "
            f"{dims.n_labels} labels, n_latent={self.module.config.n_latent}, {state})"
        )


def _model_config(**options: Any) -> ModelConfig:
    known = {field.name for field in fields(ModelConfig)}
    if unknown := options.keys() - known:
        raise ArgumentError(
            f"unknown model options {', '.join(sorted(unknown))}: known are {', '.join(sorted(known))}."
        )
    return ModelConfig(**options)


def _training_config(options: dict[str, Any]) -> TrainingConfig:
    known = {field.name for field in fields(TrainingConfig)}
    if unknown := options.keys() - known:
        raise ArgumentError(
            f"unknown training options {', '.join(sorted(unknown))}: known are {', '.join(sorted(known))}."
        )
    return replace(TrainingConfig(), **options)


def _default_epochs(n_cells: int) -> int:
    """400 passes over up to 20,000 cells, as many cells in all for larger references."""
    return max(1, min(400, round(20_000 / n_cells * 400)))


def _library_prior(cells: Cells, n_batches: int) -> torch.Tensor:
    """Mean and variance of the log library of each batch, (batches, 2)."""
    log_library = np.log(np.maximum(np.asarray(cells.rna.sum(axis=1)).ravel(), 1.0))
    rows = [log_library[cells.batch == code] for code in range(n_batches)]
    return torch.tensor([[row.mean(), max(row.var(), 1e-4)] for row in rows], dtype=torch.float32)


def _digest(registry: Registry, cells: Cells) -> str:
    """SHA-256 over names and counts: the same data in the same order gives the same digest."""
    digest = hashlib.sha256("\0".join((*registry.genes, *registry.proteins)).encode())
    for array in (cells.rna.indptr, cells.rna.indices, cells.rna.data, cells.protein, cells.batch, cells.label):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _as_values(category: str | Sequence[str] | None) -> tuple[str, ...]:
    if category is None:
        return ()
    return (category,) if isinstance(category, str) else tuple(str(value) for value in category)


def _require_keys(adata: AnnData, obsm: Sequence[str], obs: Sequence[str | None]) -> None:
    for where, keys, table in (("obsm", obsm, adata.obsm), ("obs", obs, adata.obs)):
        for key in keys:
            if key is not None and key not in table:
                there = ", ".join(map(str, table.keys())) or "none"
                raise RegistrationError(f"expected {where}[{key!r}], found the keys {there}: name one of them.")


def _chosen(names: Sequence[str] | None, known: Sequence[str], what: str) -> npt.NDArray[np.intp]:
    if names is None:
        return np.arange(len(known))
    positions = pd.Index(known).get_indexer(pd.Index(list(names), dtype=object))
    if (positions < 0).any():
        unknown = [name for name, position in zip(names, positions, strict=True) if position < 0]
        raise ArgumentError(
            f"expected {what}s of the model, found {', '.join(map(repr, unknown[:5]))}: see registry.{what}s."
        )
    return positions


def _at_least_one(n_samples: int) -> int:
    if n_samples < 1:
        raise ArgumentError(f"n_samples must be at least 1, found {n_samples}.")
    return n_samples
