"""A column that holds the cell types, and is named for what is to be removed from them as well."""

from __future__ import annotations

import warnings

from totalanvi.training.registration.columns import COLUMN_ARGUMENTS
from totalanvi.training.registration.registry import Registry

__all__ = ["warn_of_labels_as_effects"]

_EFFECTS = ("batch_key", "categorical_covariate_keys", "continuous_covariate_keys")
"""Arguments of registration whose columns the latent is to be free of."""


def warn_of_labels_as_effects(registry: Registry) -> None:
    """Warn of labels that are the batch, or a covariate, too.

    It is no error: scvi-tools takes it, and where types and batches are one, so is the column.

    Parameters
    ----------
    registry
        Of a reference.

    Warns
    -----
    UserWarning
        When there are such labels.
    """
    setup = registry.setup
    key: str = setup["labels_key"]
    modalities: dict[str, str] = setup.get("modalities", {})
    rna: str | None = setup.get("rna")

    def place(argument: str) -> str | None:
        # Columns of one name may lie in several modalities; in the RNA's, where nothing else is said.
        return modalities.get(argument, rna)

    for argument in _EFFECTS:
        named = setup[argument]
        if key in (named if isinstance(named, list | tuple) else (named,)) and place(argument) == place("labels_key"):
            what = COLUMN_ARGUMENTS[argument]
            warnings.warn(
                f"obs[{key!r}] is named for the labels and for the {what}: what tells cell types apart is then taken "
                f"for an effect of the {what}, and imputed proteins lose it, so name another column for one of them.",
                UserWarning,
                stacklevel=2,
            )
