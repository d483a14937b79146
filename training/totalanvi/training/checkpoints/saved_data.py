"""The data beside a checkpoint: written with it, and read when a model is loaded without other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mudata
from anndata import AnnData
from mudata import MuData

from totalanvi.training.checkpoints.folder import DATA_FILES
from totalanvi.training.files import require_room

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
        OSError
            When there is no room for it.
        """
        parts = self.data.mod.values() if isinstance(self.data, MuData) else [self.data]
        require_room(path, sum(part.__sizeof__() for part in parts))
        if isinstance(self.data, MuData):
            # As the next mudata does by default; this one warns of it.
            with mudata.set_options(pull_on_update=False):
                self.data.write_h5mu(path, **self.options)
        else:
            self.data.write_h5ad(path, **self.options)
