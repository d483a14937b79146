"""From mapped cells to annotations: what stands in ``obs``, ``obsm`` and ``uns`` of an annotated query, and where."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MappedCells
from totalanvi.serving.outputs.label_names import certain_names, label_names, label_sets

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = [
    "CERTAIN",
    "CONFIDENCE",
    "GUESS",
    "LABEL",
    "LABEL_SET",
    "MISSING",
    "NOVELTY",
    "OBSM_KEYS",
    "OBS_COLUMNS",
    "UNS_KEY",
    "Annotations",
    "annotate",
    "obs_entries",
    "obsm_entries",
    "reorder",
]

LABEL = "totalanvi_label"
GUESS = "totalanvi_guess"
CERTAIN = "totalanvi_certain"
"""The label, or its nearest ancestor, that is certain; only where the reference's labels have parents."""
CONFIDENCE = "totalanvi_confidence"
NOVELTY = "totalanvi_novelty"
LABEL_SET = "totalanvi_set"
"""A column of names joined by "|", and an entry of ``obsm`` with a boolean for each label."""
OBS_COLUMNS = (LABEL, GUESS, CERTAIN, CONFIDENCE, NOVELTY, LABEL_SET)
OBSM_KEYS = (
    "X_totalanvi",
    "X_totalanvi_map",
    "totalanvi_probabilities",
    LABEL_SET,
    *(f"totalanvi_{name}" for name in PROTEIN_ARRAYS),
)
UNS_KEY = "totalanvi"


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is written into a query: columns of ``obs``, entries of ``obsm``, and ``uns["totalanvi"]``.

    Parameters
    ----------
    obs
        By name: a categorical or an array, (cells,); labels that are missing are NaN.
    obsm
        By name: an array, or a DataFrame with labels or proteins as columns, (cells, columns).
    uns
        Where the annotations come from, see `totalanvi.serving.outputs.provenance.provenance`.
    """

    obs: dict[str, Any]
    obsm: dict[str, Any]
    uns: dict[str, Any]

    @classmethod
    def of(
        cls,
        mapped: MappedCells,
        cell_ids: pd.Index,
        names: pd.Index,
        features: ReferenceFeatures,
        uns: dict[str, Any],
    ) -> Annotations:
        """Arrange mapped cells as annotations of the cells called `names`.

        Parameters
        ----------
        mapped
            Results (mapped cells, …).
        cell_ids
            Names of the mapped cells (mapped cells,).
        names
            Names of the cells to annotate (cells,), in their order; those that were not mapped get missing values.
        features
            Names the columns.
        uns
            See `totalanvi.serving.outputs.provenance.provenance`.
        """
        placed = reorder(mapped, cell_ids.get_indexer(names))
        obs: dict[str, Any] = {}
        for column, (array, categories) in obs_entries(features).items():
            values = getattr(placed, array)
            obs[column] = values if categories is None else pd.Categorical.from_codes(values, pd.Index(categories))
        codes, sets = label_sets(placed, features)
        obs[LABEL_SET] = pd.Categorical.from_codes(codes, pd.Index(sets, dtype=object))
        obsm: dict[str, Any] = {}
        for key, (array, columns) in obsm_entries(features).items():
            if (values := getattr(placed, array)) is not None:
                obsm[key] = values if columns is None else pd.DataFrame(values, index=names, columns=columns)
        return cls(obs, obsm, uns)


def obs_entries(features: ReferenceFeatures) -> dict[str, tuple[str, list[str] | None]]:
    """Say what stands in each column of ``obs`` but `LABEL_SET`: the array of `MappedCells`, what its codes count."""
    labels = list(features.labels)
    entries: dict[str, tuple[str, list[str] | None]] = {
        LABEL: ("label", label_names(features)),
        GUESS: ("guess", labels),
    }
    if features.parents:
        entries[CERTAIN] = ("certain", certain_names(features))
    return entries | {CONFIDENCE: ("confidence", None), NOVELTY: ("novelty", None)}


def obsm_entries(features: ReferenceFeatures) -> dict[str, tuple[str, list[str] | None]]:
    """Say what stands in each entry of ``obsm``: the array of `MappedCells`, and the names of its columns, if any."""
    labels, proteins = list(features.labels), list(features.proteins)
    return {
        "X_totalanvi": ("latent", None),
        "X_totalanvi_map": ("coordinates", None),
        "totalanvi_probabilities": ("probabilities", labels),
        LABEL_SET: ("label_set", labels),
    } | {f"totalanvi_{name}": (name, proteins) for name in PROTEIN_ARRAYS if proteins}


MISSING: dict[str, Any] = {"i": -1, "b": False, "f": np.nan}
"""What stands for a cell that was not mapped, by kind of array."""


def reorder(mapped: MappedCells, positions: npt.NDArray[np.integer]) -> MappedCells:
    """Take mapped cells by position, with missing values where the position is -1.

    Parameters
    ----------
    mapped
        Results (mapped cells, …).
    positions
        Row of each cell in `mapped` (cells,), or -1.

    Returns
    -------
    MappedCells
        (cells, …); of a missing cell the labels are -1, its label set is empty, and all else is NaN.
    """
    absent = positions < 0
    if not absent.any():
        return mapped.rows(positions)
    arrays: dict[str, Any] = {}
    for name, array in mapped.arrays().items():
        missing = np.full((len(positions), *array.shape[1:]), MISSING[array.dtype.kind], dtype=array.dtype)
        missing[~absent] = array[positions[~absent]]
        arrays[name] = missing
    return MappedCells(**arrays)


def annotate(data: anndata.AnnData | mudata.MuData, annotations: Annotations) -> None:
    """Add annotations to an AnnData or a MuData in place; those of an earlier run are replaced, or removed."""
    for column in OBS_COLUMNS:
        if column in annotations.obs:
            data.obs[column] = annotations.obs[column]
        elif column in data.obs:
            del data.obs[column]
    for key in OBSM_KEYS:
        if key in annotations.obsm:
            data.obsm[key] = annotations.obsm[key]
        elif key in data.obsm:
            # An earlier run imputed proteins, this one did not: what is left must not look like this run's.
            del data.obsm[key]
    data.uns[UNS_KEY] = copy.deepcopy(annotations.uns)
