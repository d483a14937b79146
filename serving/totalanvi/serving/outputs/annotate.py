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
from totalanvi.serving.outputs.label_names import certain_names, label_names, label_set_names

if TYPE_CHECKING:
    import anndata
    import mudata

__all__ = [
    "CERTAIN",
    "CONFIDENCE",
    "GUESS",
    "LABEL",
    "LABEL_SET",
    "NOVELTY",
    "OBSM_KEYS",
    "OBS_COLUMNS",
    "UNS_KEY",
    "Annotations",
    "annotate",
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
        labels = list(features.labels)
        found: dict[str, Any] = {
            LABEL: pd.Categorical.from_codes(placed.label, categories=pd.Index(label_names(features))),
            GUESS: pd.Categorical.from_codes(placed.guess, categories=pd.Index(labels)),
            CONFIDENCE: placed.confidence,
            NOVELTY: placed.novelty,
            LABEL_SET: pd.Categorical(label_set_names(placed, features)),
        }
        if features.parents:
            found[CERTAIN] = pd.Categorical.from_codes(placed.certain, categories=pd.Index(certain_names(features)))
        obs = {column: found[column] for column in OBS_COLUMNS if column in found}
        obsm: dict[str, Any] = {
            "X_totalanvi": placed.latent,
            "X_totalanvi_map": placed.coordinates,
            "totalanvi_probabilities": pd.DataFrame(placed.probabilities, index=names, columns=labels),
            LABEL_SET: pd.DataFrame(placed.label_set, index=names, columns=labels),
        }
        for name in PROTEIN_ARRAYS:
            values = getattr(placed, name)
            if values is not None and features.proteins:
                obsm[f"totalanvi_{name}"] = pd.DataFrame(values, index=names, columns=list(features.proteins))
        return cls(obs, obsm, uns)


_MISSING: dict[str, Any] = {"i": -1, "b": False, "f": np.nan}
"""By kind of array."""


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
        missing = np.full((len(positions), *array.shape[1:]), _MISSING[array.dtype.kind], dtype=array.dtype)
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
