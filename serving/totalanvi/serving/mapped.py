"""What mapping asks for and what it gives back, as plain arrays: the same in process and over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from totalanvi.serving.errors import QueryError
from totalanvi.serving.intervals import MAX_COVERAGE, MIN_COVERAGE

__all__ = [
    "MAX_FALSE_POSITIVE_RATE",
    "MAX_SAMPLES",
    "MIN_CERTAINTY",
    "PROTEIN_ARRAYS",
    "Background",
    "MapOptions",
    "MappedCells",
]

Background = Literal["exclude", "include"]

MAX_SAMPLES = 1000
"""More posterior samples than this are refused: cost grows with them, and the error of their mean no longer shrinks
noticeably."""

MAX_FALSE_POSITIVE_RATE = 0.5
"""Beyond it, most cells that are just like the reference's could be called unknown."""

MIN_CERTAINTY = 0.5
"""What is less likely than its opposite is not certain."""

PROTEIN_ARRAYS = ("protein", "protein_low", "protein_high", "protein_foreground")
"""Arrays of `MappedCells` that there are only when proteins were asked for."""


@dataclass(frozen=True)
class MapOptions:
    """How to map.

    Parameters
    ----------
    impute
        Whether to estimate proteins.
    samples
        Posterior samples that a protein is averaged over; 1 decodes the posterior mean alone (the plug-in estimate).
    background
        ``"exclude"`` gives denoised protein, without the ambient background; ``"include"`` what the assay would have
        counted, the scale to compare with measured counts.
    impute_as
        Batch of the reference to impute as; a protein that it did not measure, and with None every protein, is imputed
        as the average of the batches that measured it.
    coverage
        Share of cells whose label set holds their label, and of counts that lie within their interval.
    false_positive_rate
        Share of cells like the reference's own that may be called unknown.
    keep_unknown_labels
        Whether cells beyond that keep their likeliest label.
    certainty
        How probable a label, or all labels under an ancestor together, must be to be named with certainty. As often as
        that at least, such a name is right; the default promises as much as that of label sets.

    Raises
    ------
    QueryError
        When a value is of another type or out of range.

    Examples
    --------
    >>> options = MapOptions(samples=1)
    >>> options.as_dict()["samples"], options.coverage
    (1, 0.9)
    """

    impute: bool = True
    samples: int = 25
    background: Background = "exclude"
    impute_as: str | None = None
    coverage: float = 0.9
    false_positive_rate: float = 0.01
    keep_unknown_labels: bool = False
    certainty: float = 0.9

    def __post_init__(self) -> None:
        for name in ("impute", "keep_unknown_labels"):
            if not isinstance(getattr(self, name), bool):
                raise QueryError(f"{name}: expected true or false, found {getattr(self, name)!r}.")
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or not 1 <= self.samples <= MAX_SAMPLES:
            raise QueryError(f"samples: expected a whole number from 1 to {MAX_SAMPLES}, found {self.samples!r}.")
        if self.background not in get_args(Background):
            raise QueryError(f"background: expected 'exclude' or 'include', found {self.background!r}.")
        if self.impute_as is not None and not isinstance(self.impute_as, str):
            raise QueryError(f"impute_as: expected the name of a batch or none, found {self.impute_as!r}.")
        if self.impute_as is not None and not self.impute:
            raise QueryError(
                f"impute_as: expected none where proteins are not imputed, found {self.impute_as!r}; leave it out, or "
                "impute."
            )
        _require_share("coverage", self.coverage, MIN_COVERAGE, MAX_COVERAGE)
        _require_share("certainty", self.certainty, MIN_CERTAINTY, 1)
        _require_share("false_positive_rate", self.false_positive_rate, 0, MAX_FALSE_POSITIVE_RATE)

    @property
    def novelty_threshold(self) -> float:
        """Novelty beyond which a cell is unknown."""
        return 1 - self.false_positive_rate

    def as_dict(self) -> dict[str, Any]:
        """Return the options as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MapOptions:
        """Read what `as_dict` wrote; options that are left out keep their defaults.

        Raises
        ------
        QueryError
            When `values` is no mapping, or has an option that is not known, or a value is wrong.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise QueryError(f"options: expected an object with {known}, found {type(values).__name__}.")
        if unknown := sorted(str(name) for name in set(values) - set(known)):
            raise QueryError(f"options: expected only {known}, found {unknown}; leave these out.")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class MappedCells:
    """One row per query cell.

    Parameters
    ----------
    label
        Index of the most probable label, or the number of labels where the cell is unknown, (cells,), int32.
    guess
        Index of the most probable label, (cells,), int32.
    certain
        Index of the label or of the ancestor that is certain (see `totalanvi.serving.bundles.hierarchy`), one past the
        last where none is or the cell is unknown, (cells,), int32.
    confidence
        Calibrated probability of the most probable label, (cells,), float32.
    novelty
        In [0, 1]: the share of held-out reference cells that are less novel than this cell, (cells,), float32.
    probabilities
        Calibrated, (cells, labels), float32.
    label_set
        Whether a label belongs to the cell's conformal set, (cells, labels), bool.
    latent
        Posterior mean after the latent transformation, (cells, n_latent), float32.
    coordinates
        Place on the reference's 2-D map, (cells, 2), float32.
    protein
        Imputed proteins (cells, proteins), float32; None, like the next three, when they were not asked for.
    protein_low, protein_high
        Interval of the count that would be measured, background included, (cells, proteins), float32; NaN for a protein
        of which too few held-out cells are known.
    protein_foreground
        Probability that a count is more than background, (cells, proteins), float32.

    Raises
    ------
    ValueError
        When the arrays do not agree in the number of cells.
    """

    label: npt.NDArray[np.int32]
    guess: npt.NDArray[np.int32]
    certain: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    novelty: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    label_set: npt.NDArray[np.bool_]
    latent: npt.NDArray[np.float32]
    coordinates: npt.NDArray[np.float32]
    protein: npt.NDArray[np.float32] | None = None
    protein_low: npt.NDArray[np.float32] | None = None
    protein_high: npt.NDArray[np.float32] | None = None
    protein_foreground: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self.arrays().items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"expected one row per cell in every array, found {lengths}.")

    def __len__(self) -> int:
        return len(self.label)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the arrays by name, those of proteins only when there are any."""
        return {name: array for name, array in vars(self).items() if array is not None}

    def rows(self, index: slice | npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> MappedCells:
        """Take a part of the cells: a slice, which shares their memory, integer positions, or a mask (cells,)."""
        taken: dict[str, Any] = {name: array[index] for name, array in self.arrays().items()}
        return MappedCells(**taken)

    @classmethod
    def room(cls, n_cells: int, n_labels: int, n_latent: int, n_proteins: int | None) -> MappedCells:
        """Make room for cells that are mapped part by part; None where proteins are not asked for."""

        def floats(*columns: int) -> npt.NDArray[np.float32]:
            return np.empty((n_cells, *columns), dtype=np.float32)

        return cls(
            label=np.empty(n_cells, dtype=np.int32),
            guess=np.empty(n_cells, dtype=np.int32),
            certain=np.empty(n_cells, dtype=np.int32),
            confidence=floats(),
            novelty=floats(),
            probabilities=floats(n_labels),
            label_set=np.empty((n_cells, n_labels), dtype=bool),
            latent=floats(n_latent),
            coordinates=floats(2),
            **({} if n_proteins is None else {name: floats(n_proteins) for name in PROTEIN_ARRAYS}),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[MappedCells]) -> MappedCells:
        """Join parts of one query, in order.

        Raises
        ------
        ValueError
            When there is no part, or only some of them have proteins.
        """
        if not parts:
            raise ValueError("expected at least one part to join, found none.")
        if len({part.protein is None for part in parts}) != 1:
            raise ValueError("expected proteins in all parts or in none, found them in some.")
        columns = [part.arrays() for part in parts]
        joined: dict[str, Any] = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        return cls(**joined)


def _require_share(name: str, value: float, lowest: float, highest: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # NaN fails the comparison as well.
    if not number or not lowest <= value <= highest:
        raise QueryError(f"{name}: expected a number from {lowest:g} to {highest:g}, found {value!r}.")
