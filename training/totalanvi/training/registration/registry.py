"""What a model knows of its reference: names, codes, and who measured what. Written as JSON into a checkpoint."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import CheckpointError
from totalanvi.training.network.dimensions import Dimensions

__all__ = ["Registry"]

_VERSION = 3


@dataclass(frozen=True)
class Registry:
    """Names of a reference in model order.

    Parameters
    ----------
    genes, proteins
        Feature names.
    ensembl_ids
        Ensembl id of each gene where the reference tells it.
    gene_symbols
        Symbol of each gene of a reference that names them by Ensembl ids, where it tells; empty where it does not.
    labels
        Cell types, without the unlabelled category.
    unlabeled
        Values of the label column that mean "not labelled".
    batches, panels
        Names by code.
    batch_proteins, panel_proteins
        Who measured what, (batches, proteins) and (panels, proteins).
    setup
        The arguments of registration, as given.
    categorical_covariates
        Name and categories, in the order of their codes, of each categorical covariate.
    continuous_covariates
        Names of the continuous covariates.
    has_size_factor
        Whether the scale of a cell's RNA counts is a size factor that the data gives, and not its library size.
    zeros_count
        Whether proteins that are zero throughout a panel, or a cell, were measured (``override_missing_proteins``).
    adapted
        Whether surgery has adapted the model to a query. Its cells may then lack proteins, or all of them.
    """

    genes: tuple[str, ...]
    proteins: tuple[str, ...]
    labels: tuple[str, ...]
    unlabeled: tuple[str, ...]
    batches: tuple[str, ...]
    panels: tuple[str, ...]
    batch_proteins: tuple[tuple[bool, ...], ...]
    panel_proteins: tuple[tuple[bool, ...], ...]
    setup: dict[str, Any]
    ensembl_ids: tuple[str, ...] | None = None
    gene_symbols: tuple[str, ...] | None = None
    categorical_covariates: tuple[tuple[str, tuple[str, ...]], ...] = ()
    continuous_covariates: tuple[str, ...] = ()
    has_size_factor: bool = False
    zeros_count: bool = False
    adapted: bool = False
    version: int = _VERSION

    @property
    def dimensions(self) -> Dimensions:
        """Sizes for the network."""
        return Dimensions(
            n_genes=len(self.genes),
            n_proteins=len(self.proteins),
            n_batches=len(self.batches),
            n_panels=len(self.panels),
            n_labels=len(self.labels),
            n_categories=tuple(len(categories) for _, categories in self.categorical_covariates),
            n_continuous=len(self.continuous_covariates),
            has_size_factor=self.has_size_factor,
        )

    @property
    def has_missing_proteins(self) -> bool:
        """Whether any panel lacks any protein."""
        return not all(all(row) for row in self.panel_proteins)

    def panel_mask(self) -> npt.NDArray[np.bool_]:
        """Which panel measures which protein, (panels, proteins)."""
        return np.array(self.panel_proteins, dtype=bool).reshape(len(self.panels), len(self.proteins))

    def write(self, path: Path) -> None:
        """Write as JSON."""
        fields = dataclasses.asdict(self) | {"version": _VERSION}
        path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Registry:
        """Read what `write` wrote.

        Raises
        ------
        CheckpointError
            When the file is missing, is not a registry, or is of a newer version.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"Expected the registry of a checkpoint at {path}, found it unreadable ({error}); train again, or "
                "restore the file."
            ) from error
        return cls.of_fields(fields, str(path))

    @classmethod
    def of_fields(cls, fields: Any, where: str) -> Registry:
        """Make one of what JSON keeps of it; ``where`` says where that was, for messages.

        Raises
        ------
        CheckpointError
            When it is not a registry, or is of a newer version.
        """
        version = fields.get("version") if isinstance(fields, dict) else None
        if not isinstance(version, int) or version > _VERSION:
            raise CheckpointError(
                f"Expected a registry of version {_VERSION} or older in {where}, found version {version}; upgrade "
                "totalanvi."
            )
        try:
            return cls(**_as_tuples(fields))
        except TypeError as error:
            raise CheckpointError(
                f"Expected a registry that this version knows in {where}, found another ({error}); train again."
            ) from error


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_tuples(item) for name, item in value.items()}
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
