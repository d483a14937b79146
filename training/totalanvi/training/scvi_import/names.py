"""From what scvi-tools registered of a reference to our `Registry`; codes keep the order that the weights have.

scvi-tools sorts the values of a column too, but takes the order of a categorical column as it is, and moves the
unlabelled category to the end, where its place is taken by the label that was last.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.training.errors import CheckpointError
from totalanvi.training.registration.codes import as_values
from totalanvi.training.registration.panels import as_rows
from totalanvi.training.registration.registry import Registry
from totalanvi.training.registration.setup_note import COUNT_ARGUMENTS, Setup
from totalanvi.training.scvi_import.saves import ScviSave

__all__ = ["registry_of", "setup_of"]

_MASK = "protein_batch_mask"


def registry_of(save: ScviSave) -> Registry:
    """Names of the reference of a saved model, in the order of its weights.

    Who measured what in a batch is what its panel measures; where panels are not the batches, the save does not tell
    which batches have which, and a batch counts as having measured all that any panel does.

    Raises
    ------
    CheckpointError
        When the registry lacks a part, or knows fewer than two labels.
    """
    try:
        genes = as_values(_required(save, "X")["column_names"])
        proteins = _protein_names(_required(save, "proteins")["column_names"])
        batches = _categories(save, "batch")
        panels = batches if save.state("panel") is None else _categories(save, "panel")
        mappings = (save.state("extra_categorical_covs") or {}).get("mappings", {})
        continuous = (save.state("extra_continuous_covs") or {}).get("columns", ())
        panel_proteins = _panel_proteins(save, len(panels), len(proteins))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Expected the registry of a {save.kind} of scvi-tools 1.1 to 1.5, found another layout "
            f"({type(error).__name__}: {error}); load the model and save it anew with scvi-tools."
        ) from error
    batch_proteins = panel_proteins
    if save.state("panel") is not None:
        batch_proteins = np.tile(panel_proteins.any(axis=0), (len(batches), 1))
    setup = setup_of(save)
    return Registry(
        genes=genes,
        proteins=proteins,
        labels=_labels(save),
        unlabeled=setup.unlabeled,
        batches=batches,
        panels=panels,
        batch_proteins=as_rows(batch_proteins),
        panel_proteins=as_rows(panel_proteins),
        setup=asdict(setup),
        categorical_covariates=tuple((str(key), as_values(values)) for key, values in mappings.items()),
        continuous_covariates=as_values(continuous),
        has_size_factor=save.state("size_factor") is not None,
        zeros_count=_zeros_count(save),
    )


def setup_of(save: ScviSave) -> Setup:
    """Where the reference's parts are, as it was said to scvi-tools."""
    given = save.setup_args
    columns: dict[str, Any] = {
        name: given.get(name) for name in ("batch_key", "panel_key", "labels_key", "size_factor_key")
    }
    for name in ("categorical_covariate_keys", "continuous_covariate_keys"):
        columns[name] = tuple(given.get(name) or ())
    columns["unlabeled"] = as_values(given.get("unlabeled_category"))
    if save.setup_method == "setup_anndata":
        return Setup(
            kind="anndata",
            proteins=given["protein_expression_obsm_key"],
            rna_layer=given.get("layer"),
            protein_names_uns_key=given.get("protein_names_uns_key"),
            **columns,
        )
    modalities = {name: value for name, value in given["modalities"].items() if value is not None}
    return Setup(
        kind="mudata",
        rna=modalities["rna_layer"],
        proteins=modalities["protein_layer"],
        rna_layer=given.get("rna_layer"),
        protein_layer=given.get("protein_layer"),
        modalities={name: value for name, value in modalities.items() if name not in COUNT_ARGUMENTS},
        **columns,
    )


def _required(save: ScviSave, field: str) -> dict[str, Any]:
    state = save.state(field)
    if state is None:
        raise LookupError(f"nothing registered of {field!r}")
    return state


def _categories(save: ScviSave, field: str) -> tuple[str, ...]:
    return as_values(_required(save, field)["categorical_mapping"])


def _labels(save: ScviSave) -> tuple[str, ...]:
    """Labels without the unlabelled category, which is the last."""
    if save.kind != "TOTALANVI":
        return ()
    labels = _categories(save, "labels")[:-1]
    if len(labels) < 2:
        raise CheckpointError(
            f"Expected a model that tells two labels or more apart, found {', '.join(labels) or 'none'}; give another."
        )
    return labels


def _protein_names(columns: npt.NDArray[Any]) -> tuple[str, ...]:
    """Names of proteins; those that scvi-tools has only counted are called as we call such proteins."""
    counted = np.issubdtype(np.asarray(columns).dtype, np.integer)
    return tuple(f"protein_{i}" for i in columns) if counted else as_values(columns)


def _panel_proteins(save: ScviSave, n_panels: int, n_proteins: int) -> npt.NDArray[np.bool_]:
    """Which panel measures which protein, (panels, proteins)."""
    measured = np.ones((n_panels, n_proteins), dtype=bool)
    if not _zeros_count(save):
        for panel, mask in _required(save, "proteins").get(_MASK, {}).items():
            measured[int(panel)] = np.asarray(mask, dtype=bool)
    return measured


def _zeros_count(save: ScviSave) -> bool:
    return bool(save.options.get("override_missing_proteins", False))
