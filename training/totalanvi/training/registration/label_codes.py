"""From the column of cell types to labels and their codes."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd

from totalanvi.training.data import UNLABELLED
from totalanvi.training.errors import RegistrationError, listed
from totalanvi.training.registration.codes import texts
from totalanvi.training.registration.columns import Columns
from totalanvi.training.registration.setup_note import Setup

__all__ = ["label_names", "query_labels", "reference_labels"]

_LEAST_CELLS_PER_LABEL = 2
"""On average. Where there are fewer, the column holds names of cells, or measurements."""


def label_names(columns: Columns, setup: Setup) -> tuple[str, ...]:
    """Labels of a reference in the order of their codes, sorted, without those that mean "not labelled".

    Raises
    ------
    RegistrationError
        When the column is not there, labels cells of fewer than two types, or hardly two of them alike.
    """
    if setup.labels_key is None:
        return ()
    values = _cell_types(columns.require(setup.labels_key, "labels_key"))
    found = set(values) - {None}
    absent = sorted(name for name in set(setup.unlabeled) - found if name.strip())
    if absent:
        warnings.warn(
            f"No cell has the label {listed(absent)}, which was named as 'not labelled': is it spelt so in "
            f"obs[{setup.labels_key!r}]?",
            UserWarning,
            stacklevel=2,
        )
    labels = tuple(sorted(found - set(setup.unlabeled)))
    if len(labels) < 2:
        what = f"only {labels[0]!r}" if labels else "no labelled cell"
        raise RegistrationError(
            f"Expected labelled cells of two types or more in obs[{setup.labels_key!r}], found {what} "
            f"(not counting {listed(setup.unlabeled)}); name another column, or other values for unlabelled."
        )
    n_labelled = int(pd.Index(values, dtype=object).isin(labels).sum())
    if n_labelled < _LEAST_CELLS_PER_LABEL * len(labels):
        raise RegistrationError(
            f"Expected cell types in obs[{setup.labels_key!r}], which several cells share, found {len(labels)} "
            f"different values, such as {labels[0]!r}, for {n_labelled} labelled cells; name the column of cell types, "
            "or merge types that hardly a cell has."
        )
    return labels


def reference_labels(columns: Columns, setup: Setup, labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Label codes of a reference, (cells,), `UNLABELLED` where a cell has no label."""
    if setup.labels_key is None:
        return np.full(len(columns.cells), UNLABELLED, np.int64)
    return _codes(_cell_types(columns.require(setup.labels_key, "labels_key")), labels)


def query_labels(columns: Columns, setup: Setup, labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Label codes of other cells, (cells,), `UNLABELLED` where there is no label, or one that the model does not know.

    A query needs no column of labels.
    """
    column = None if setup.labels_key is None else columns.find(setup.labels_key, "labels_key")
    if column is None:
        return np.full(len(columns.cells), UNLABELLED, np.int64)
    values = _cell_types(column)
    unknown = sorted(set(values) - {None, *labels, *setup.unlabeled})
    if unknown:
        warnings.warn(
            f"The model does not know the labels {listed(unknown)} of obs[{setup.labels_key!r}]: their cells count as "
            "unlabelled. Rename them to the model's labels if they are the same types.",
            UserWarning,
            stacklevel=2,
        )
    return _codes(values, labels)


def _cell_types(column: pd.Series) -> npt.NDArray[np.object_]:
    """Return a column as texts, (cells,), None where a cell has no label: an empty text, or one of blanks, is none."""
    values = texts(column)
    blank = [value for value in set(values) if value is not None and not value.strip()]
    values[pd.Index(values, dtype=object).isin(blank)] = None
    return values


def _codes(values: npt.NDArray[np.object_], labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = pd.Index(labels, dtype=object).get_indexer(pd.Index(values, dtype=object))
    return codes.astype(np.int64)
