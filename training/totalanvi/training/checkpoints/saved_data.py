"""The data beside a checkpoint: written with it, and read when a model is loaded without other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anndata import AnnData
from mudata import MuData

from totalanvi.training.checkpoints.folder import DATA_FILES
from totalanvi.training.errors import ArgumentError
from totalanvi.training.files import write_data

__all__ = ["DataBeside"]


@dataclass(frozen=True)
class DataBeside:
    """Data to be saved beside a checkpoint.

    Parameters
    ----------
    data
        What the model was given.
    options
        Arguments of ``AnnData.write_h5ad`` or ``MuData.write_h5mu``, ``compression`` for one.
    """

    data: AnnData | MuData
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the file, without prefix."""
        anndata_name, mudata_name = DATA_FILES
        return mudata_name if isinstance(self.data, MuData) else anndata_name

    def write(self, path: Path) -> None:
        """Write the file.

        Raises
        ------
        ArgumentError
            When the options are none of the writer, or the data cannot be written.
        OSError
            When there is no room for it.
        """
        try:
            write_data(self.data, path, **self.options)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # anndata has an error of its own for types it cannot write
            writer = "write_h5mu" if isinstance(self.data, MuData) else "write_h5ad"
            raise ArgumentError(
                f"Expected data and options that {writer}() takes, found what it refuses ({error}); mend it, or save "
                "the model without its data."
            ) from error
