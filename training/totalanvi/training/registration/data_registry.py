"""What a model knows of its data, in the words of scvi-tools: places, states, sizes.

scvi-tools writes codes into the data object, as columns ``_scvi_batch`` and so on, and keeps a registry of where they
are. Here nothing but a note is written into the data. The registry gives the names of the places that scvi-tools would
use; `totalanvi.training.registration.manager.DataManager.get_from_registry` gives what would be there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from totalanvi.training.registration.attribute_dict import AttributeDict
from totalanvi.training.registration.columns import COLUMN_ARGUMENTS
from totalanvi.training.registration.registry import Registry

__all__ = ["data_registry", "setup_arguments", "state_registry", "summary_stats", "unlabeled_category"]


def setup_arguments(registry: Registry) -> dict[str, Any]:
    """Arguments of ``setup_anndata`` or ``setup_mudata``, by their names; `None` for those not given."""
    setup = registry.setup
    columns = {name: _plain(setup.get(name)) for name in COLUMN_ARGUMENTS}
    columns["unlabeled_category"] = unlabeled_category(registry)
    if setup["kind"] == "anndata":
        return {
            "protein_expression_obsm_key": setup["proteins"],
            "protein_names_uns_key": setup["protein_names_uns_key"],
            "layer": setup["rna_layer"],
            **columns,
        }
    named = {"rna_layer": setup["rna"], "protein_layer": setup["proteins"]}
    return {
        "rna_layer": setup["rna_layer"],
        "protein_layer": setup["protein_layer"],
        **columns,
        "modalities": {**setup.get("modalities", {}), **named},
    }


def unlabeled_category(registry: Registry) -> str | tuple[str, ...] | None:
    """The value that means "not labelled", or all of them when they are several."""
    return registry.unlabeled[0] if len(registry.unlabeled) == 1 else registry.unlabeled or None


def data_registry(registry: Registry) -> AttributeDict:
    """Where each part of the data is: attribute and key, and the modality where one was named."""
    setup, modalities = registry.setup, registry.setup.get("modalities", {})

    def matrix(modality: str | None, layer: str | None) -> AttributeDict:
        return _place("X" if layer is None else "layers", layer, modality)

    def column(key: str, argument: str, attribute: str = "obs") -> AttributeDict:
        return _place(attribute, key, modalities.get(argument))

    places = {
        "X": matrix(setup["rna"], setup["rna_layer"]),
        "batch": column("_scvi_batch", "batch_key"),
        "labels": column("_scvi_labels", "labels_key"),
        "proteins": (
            _place("obsm", setup["proteins"], None)
            if setup["kind"] == "anndata"
            else matrix(setup["proteins"], setup["protein_layer"])
        ),
    }
    if setup["panel_key"] is not None:
        places["panel"] = column("_scvi_panel", "panel_key")
    if registry.has_size_factor:
        places["size_factor"] = column(setup["size_factor_key"], "size_factor_key")
    if registry.categorical_covariates:
        places["extra_categorical_covs"] = column(
            "_scvi_extra_categorical_covs", "categorical_covariate_keys", attribute="obsm"
        )
    if registry.continuous_covariates:
        places["extra_continuous_covs"] = column(
            "_scvi_extra_continuous_covs", "continuous_covariate_keys", attribute="obsm"
        )
    return AttributeDict(places)


def state_registry(registry: Registry, n_cells: int) -> AttributeDict:
    """Names and categories of each part of the data, in the order of the model's codes."""
    setup = registry.setup
    unlabeled = registry.unlabeled[0] if registry.unlabeled else None
    proteins: dict[str, Any] = {"column_names": np.array(registry.proteins, dtype=object)}
    if registry.has_missing_proteins:
        proteins["protein_batch_mask"] = {str(code): row for code, row in enumerate(registry.panel_mask())}
    states: dict[str, dict[str, Any]] = {
        "X": {
            "n_obs": n_cells,
            "n_vars": len(registry.genes),
            "column_names": np.array(registry.genes, dtype=object),
        },
        "batch": _categories(registry.batches, setup["batch_key"]),
        "labels": {
            **_categories((*registry.labels, unlabeled), setup["labels_key"]),
            "unlabeled_category": unlabeled,
        },
        "proteins": proteins,
        "panel": _categories(registry.panels, setup["panel_key"]),
        "size_factor": {},
        "extra_categorical_covs": {
            "mappings": {key: np.array(values, dtype=object) for key, values in registry.categorical_covariates},
            "field_keys": [key for key, _ in registry.categorical_covariates],
            "n_cats_per_key": [len(values) for _, values in registry.categorical_covariates],
        },
        "extra_continuous_covs": {"columns": np.array(registry.continuous_covariates, dtype=object)},
    }
    return AttributeDict({key: AttributeDict(states[key]) for key in data_registry(registry)})


def summary_stats(registry: Registry, n_cells: int) -> AttributeDict:
    """Sizes of the data. "Not labelled" counts as a label."""
    panels = {} if registry.setup["panel_key"] is None else {"n_panel": len(registry.panels)}
    return AttributeDict(
        n_batch=len(registry.batches),
        n_cells=n_cells,
        n_extra_categorical_covs=len(registry.categorical_covariates),
        n_extra_continuous_covs=len(registry.continuous_covariates),
        n_labels=len(registry.labels) + 1,
        n_proteins=len(registry.proteins),
        n_vars=len(registry.genes),
        **panels,
    )


def _place(attribute: str, key: str | None, modality: str | None) -> AttributeDict:
    place = {"attr_name": attribute, "attr_key": key}
    return AttributeDict(place if modality is None else {"mod_key": modality, **place})


def _categories(names: tuple[str | None, ...], key: str | None) -> dict[str, Any]:
    return {"categorical_mapping": np.array(names, dtype=object), "original_key": key}


def _plain(value: Any) -> Any:
    """Several keys as a list, none as `None`: as they are given."""
    return (list(value) or None) if isinstance(value, tuple | list) else value
