"""``save`` and ``load``: a model as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from totalanvi.training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from totalanvi.training.checkpoints.folder import require_prefix, require_writable, saved_data_file
from totalanvi.training.checkpoints.legacy_saves import plain_attributes, read_legacy_save
from totalanvi.training.checkpoints.saved_data import DataBeside
from totalanvi.training.checks import as_names, as_path, require_flags
from totalanvi.training.data import StoredCells
from totalanvi.training.devices import chosen_device
from totalanvi.training.errors import ArgumentError, CheckpointError
from totalanvi.training.files import read_reference
from totalanvi.training.models.as_checkpoint import CheckpointedModel
from totalanvi.training.ranks import is_first_process
from totalanvi.training.registration.setup_note import Data

__all__ = ["SavableModel"]


class SavableModel(CheckpointedModel):
    """A model that can be written and read."""

    def save(
        self,
        dir_path: str | Path,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: None = None,
        legacy_mudata_format: bool = False,
        datamodule: None = None,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Write a checkpoint: safetensors and JSON, no pickle.

        Of several processes that have trained together, the first one writes; in the others, nothing happens.

        Parameters
        ----------
        dir_path
            Folder to write to.
        prefix
            What the names of the files begin with, so that several models share a folder.
        overwrite
            Whether the folder may exist. A checkpoint in it with the same prefix is replaced; other files stay.
        save_anndata
            Write the data too, as ``adata.h5ad`` or ``mdata.h5mu``.
        legacy_mudata_format
            Has no effect: feature names are kept in one form.
        save_kwargs, datamodule
            Arguments of scvi-tools that have no meaning here, and are refused.
        **anndata_write_kwargs
            How to write the data: arguments of ``AnnData.write_h5ad`` or ``MuData.write_h5mu``.

        Raises
        ------
        CheckpointError
            When the folder may not be written, or something else would be lost.
        ArgumentError
            When data is to be saved and there is none, it lies in a file already, or it cannot be written so; for
            arguments without a meaning, and for a ``dir_path`` or a flag that is none.

        Examples
        --------
        >>> model.save("checkpoint/", overwrite=True)  # doctest: +SKIP
        """
        _refuse(save_kwargs=save_kwargs, datamodule=datamodule)
        require_flags(overwrite=overwrite, save_anndata=save_anndata, legacy_mudata_format=legacy_mudata_format)
        folder = as_path("dir_path", dir_path)
        if save_anndata and self.adata is None:
            raise ArgumentError("save_anndata: expected a model with data, found one without; leave it out.")
        if save_anndata and isinstance(self._cells, StoredCells):
            raise ArgumentError(
                "save_anndata: expected data in memory, found counts that lie in a file already; leave it out, and "
                "give that file's data when you load the model (adata=...)."
            )
        if anndata_write_kwargs and not save_anndata:
            raise ArgumentError(
                f"Expected no more arguments unless save_anndata=True, found {', '.join(anndata_write_kwargs)}; leave "
                "them out, or save the data."
            )
        if not is_first_process():
            return
        beside = DataBeside(self.adata, anndata_write_kwargs) if save_anndata and self.adata is not None else None
        # Before the sample is drawn: a refusal should not take long.
        require_writable(folder, overwrite, require_prefix(prefix))
        write_checkpoint(folder, self._as_checkpoint(), overwrite, prefix, beside)

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: Data | Literal[False] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: None = None,
        datamodule: None = None,
        allowed_classes_names_list: Sequence[str] | None = None,
    ) -> Self:
        """Read a checkpoint.

        Parameters
        ----------
        dir_path
            Folder that `save` or ``totalanvi train`` wrote.
        adata
            Data to attach, with the reference's features and columns; it need not be set up. `None` takes the data that
            was saved beside, if any was; `False` takes none. Without data, results need data given to them.
        accelerator, device
            Where the network goes; by default to a CUDA device where there is one, or else to the CPU. See
            `totalanvi.training.devices.chosen_device`.
        prefix
            As given to `save`.
        allowed_classes_names_list
            Names of other classes whose checkpoints are taken too.
        backup_url, datamodule
            Arguments of scvi-tools that have no meaning here, and are refused: nothing is downloaded.

        Raises
        ------
        CheckpointError
            When the checkpoint is not whole, was altered, or is of another class.
        RegistrationError
            When ``adata`` is not like the reference.
        ArgumentError
            For arguments without a meaning, and for a device that is not here.

        Examples
        --------
        >>> model = TOTALANVI.load("checkpoint/", adata=mdata)  # doctest: +SKIP
        """
        _refuse(backup_url=backup_url, datamodule=datamodule)
        folder, target = as_path("dir_path", dir_path), chosen_device(accelerator, device)
        others = as_names("allowed_classes_names_list", allowed_classes_names_list or [], "names of classes")
        checkpoint = read_checkpoint(folder, prefix)
        if checkpoint.kind not in (cls.__name__, *others):
            raise CheckpointError(
                f"Expected a checkpoint of {cls.__name__} at {dir_path}, found one of {checkpoint.kind}; load it with "
                f"{checkpoint.kind}.load(...)."
            )
        model = cls.__new__(cls)
        model._restore(checkpoint, folder)
        model.module.to(target)
        if adata is None:
            beside = saved_data_file(folder, require_prefix(prefix))
            adata = False if beside is None else read_reference(beside)
        if adata is not False:
            model._attach(adata)
        return model

    @classmethod
    def convert_legacy_save(
        cls, dir_path: str | Path, output_dir_path: str | Path, overwrite: bool = False, prefix: str | None = None
    ) -> None:
        """Make a checkpoint of a save in parts: see `totalanvi.training.checkpoints.legacy_saves`.

        Parameters
        ----------
        dir_path
            Folder with the save.
        output_dir_path
            Folder to write to; it may be the same.
        overwrite
            Whether it may exist.
        prefix
            What the names of the files begin with.

        Raises
        ------
        CheckpointError
            When the save cannot be read, or the folder not be written.

        Examples
        --------
        >>> TOTALANVI.convert_legacy_save("saved_in_parts/", "checkpoint/")  # doctest: +SKIP
        """
        require_flags(overwrite=overwrite)
        folder, output = as_path("dir_path", dir_path), as_path("output_dir_path", output_dir_path)
        write_checkpoint(output, read_legacy_save(folder, require_prefix(prefix)), overwrite, prefix)

    def _get_user_attributes(self) -> list[tuple[str, Any]]:
        """Names and plain values of what a save in parts holds beside the weights."""
        return list(plain_attributes(self._as_checkpoint()).items())


def _refuse(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ArgumentError(f"{name}: expected none, for it has no meaning here, found {value!r}; leave it out.")
