"""The saves in ``scvi/`` for tests: where each is, the data it was trained on, and what scvi-tools made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from anndata import AnnData
from mudata import MuData
from tests.reference.cells import anndata_of, mudata_of, read_cells

__all__ = ["SAVES", "Save", "altered", "save_named"]

ROOT = Path(__file__).parent / "scvi"


@dataclass(frozen=True)
class Save:
    """One saved model."""

    version: str
    name: str

    @property
    def folder(self) -> Path:
        """What `save` of scvi-tools wrote."""
        return ROOT / self.version / self.name

    @property
    def is_labelled(self) -> bool:
        return self.name.startswith("totalanvi")

    def data(self) -> AnnData | MuData:
        """The data it was trained on, made anew."""
        return mudata_of(_cells()) if self.name.endswith("mudata") else anndata_of(_cells())

    def outputs(self) -> dict[str, npt.NDArray[Any]]:
        """What scvi-tools made of the first cells."""
        return read_cells(self.folder / "outputs.npz")

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


SAVES = [Save(file.parent.parent.name, file.parent.name) for file in sorted(ROOT.glob("*/*/model.pt"))]


def save_named(name: str, version: str = "1.5.1") -> Save:
    """The save of this name."""
    (found,) = (save for save in SAVES if (save.name, save.version) == (name, version))
    return found


def altered(save: Save, folder: Path, **attributes: Any) -> Path:
    """A copy of a save in ``folder`` with other attributes, or without one that is `None`."""
    from totalanvi.training.scvi_import.inert import read_inert

    content = read_inert(save.folder / "model.pt")
    for name, value in attributes.items():
        content["attr_dict"].pop(name, None)
        if value is not None:
            content["attr_dict"][name] = value
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "model.pt")
    return folder


@cache
def _cells() -> dict[str, npt.NDArray[Any]]:
    return read_cells(ROOT / "cells.npz")
