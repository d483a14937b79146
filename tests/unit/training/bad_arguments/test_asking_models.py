"""What makes no sense is refused by name, in one error of ours: questions, plots, files and flags."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import pytest
from tests.support.reference_cells import draw_adata
from tests.support.refusals import named, refused

from totalanvi.training import TOTALANVI, TrainingError, import_scvi, simulate
from totalanvi.training.plots import plot_attributions, plot_confusion, plot_history, plot_protein

# Results


@named(
    [
        *(({"transform_batch": value}, "transform_batch: expected one of the model's") for value in (1.5, True, [[0]])),
        *(({"gene_list": value}, "gene_list: expected a list of genes, found") for value in (5, "GENE0")),
        *(({"protein_list": value}, "protein_list: expected proteins of the model, found") for value in ([5], [["a"]])),
        *(
            ({"library_size": value}, "library_size: expected a number above 0, found")
            for value in ([1, 2], np.ones(2), "x", True, float("inf"))
        ),
        ({"n_samples": 2.5}, "n_samples: expected a whole number of at least 1"),
        ({"n_samples_overall": "x"}, "n_samples_overall: expected a whole number"),
        ({"indices": [[0, 1], [2, 3]]}, r"indices: expected one list of cells, found an array of shape \(2, 2\)"),
        (
            {"indices": np.where(np.eye(20)[0])},
            r"indices: expected one list of cells, found an array of shape \(1, 1\)",
        ),
        (
            {"indices": np.ones((20, 1), bool)},
            r"indices: expected one list of cells, found an array of shape \(20, 1\)",
        ),
        ({"indices": [[0, 1], [2]]}, "indices: expected positions of cells, .* found values of type object"),
        ({"indices": 5}, r"indices: expected one list of cells, found an array of shape \(\)"),
        ({"indices": [-1]}, "indices: expected 0 to 19, found -1"),
    ]
)
def test_expression(model: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    refused(lambda: model.get_normalized_expression(**arguments), f"^{message}")


@named(
    [
        *(({"delta": value}, "delta: expected a number of at least 0, found") for value in ("x", [0.1], float("nan"))),
        *(({"fdr_target": value}, "fdr_target: expected a number above 0 and below 1") for value in (2, "x", None)),
        *(({"cred_interval_lvls": value}, "cred_interval_lvls: expected a list of levels") for value in (0.5, "x")),
        ({"cred_interval_lvls": ["x"]}, "cred_interval_lvls: expected a number above 0 and below 1, found 'x'"),
        ({"group1": [["B"]]}, r"group1: expected a group with cells .*, found \['B'\]"),
        ({"group2": ["T"]}, r"group2: expected a group with cells .*, found \['T'\]"),
        ({"groupby": ["kind"]}, r"groupby: expected a name, found \['kind'\]"),
        (
            {"change_fn": lambda first, second: first - second},
            "change_fn: expected a function of two expressions and a",
        ),
        ({"m1_domain_fn": lambda: 1}, "m1_domain_fn: expected a function of changes"),
        ({"m1_domain_fn": lambda change: 5}, "m1_domain_fn: expected two arrays of"),
        ({"mode": ["vanilla"]}, "mode: expected one of vanilla, change"),
        ({"pseudocounts": "x"}, "pseudocounts: expected a number of at least 0"),
        ({"protein_prior_count": [1]}, "protein_prior_count: expected a number of at least 0"),
        ({"use_field": 5}, "use_field: expected a list of rna, protein or both, found 5"),
        ({"use_field": [["rna"]]}, r"use_field: expected one of rna, protein, found \['rna'\]"),
        ({"batch_correction": True, "batchid1": 1.5}, "batchid1: expected one of the model's batches"),
        ({"idx1": [0, 1]}, "groupby, group1: expected none beside idx1, which chooses the groups, found both; leave"),
        ({"groupby": None, "idx1": [0]}, "group1: expected none beside idx1"),
        ({"groupby": None, "group1": None, "idx1": "kind"}, "idx1: expected a condition .*true or false of each cell"),
        ({"groupby": None, "group1": None, "idx1": "a = 3"}, "idx1: expected a condition on columns of obs"),
    ]
)
def test_differential_expression(model: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    given = {"groupby": "kind", "group1": "B", "n_samples_overall": 20, "silent": True, **arguments}
    refused(lambda: model.differential_expression(**given), f"^{message}")


@named(
    [
        ({"ig_args": 5}, "ig_args: expected Mapping, found int"),
        ({"ig_args": {"method": "zz"}}, r"ig_args\['method'\]: expected one of gausslegendre, .*, found 'zz'"),
    ]
)
def test_attributions(model: TOTALANVI, arguments: dict[str, Any], message: str) -> None:
    refused(lambda: model.predict(ig_interpretability=True, **arguments), f"^{message}")


@pytest.mark.parametrize("size", ["x", [1], 0, float("inf"), None])
def test_correlation(model: TOTALANVI, size: Any) -> None:
    refused(
        lambda: model.get_feature_correlation_matrix(rna_size_factor=size), "rna_size_factor: expected a number above"
    )


# On disk, and on a device


@pytest.mark.parametrize("place", [None, 5, ["here"]])
def test_what_is_no_folder(model: TOTALANVI, place: Any, tmp_path: Path) -> None:
    for call in (
        lambda: model.save(place),
        lambda: TOTALANVI.load(place),
        lambda: TOTALANVI.load_registry(place),
        lambda: TOTALANVI.convert_legacy_save(place, tmp_path),
        lambda: TOTALANVI.convert_legacy_save(tmp_path, place),
    ):
        refused(call, "dir_path: expected a path, found .*; give one")
    refused(lambda: import_scvi(place), "folder: expected a path, found")
    refused(
        lambda: TOTALANVI.prepare_query_anndata(draw_adata(), place),
        "reference_model: expected a model, or the folder of one, found",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="a place that root may not write either")
def test_a_place_that_cannot_be_written(model: TOTALANVI) -> None:
    refused(lambda: model.save("/proc/nowhere/saved"), "Expected a place where .* can be written", TrainingError)


@named(
    [
        ({"prefix": 5}, "prefix: expected a name, found 5"),
        ({"save_anndata": True, "compression": "zz"}, r"Expected data and options that write_h5ad\(\) takes, .*\"zz\""),
    ]
)
def test_saving(model: TOTALANVI, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    refused(lambda: model.save(tmp_path / "saved", **arguments), f"^{message}")
    assert not list(tmp_path.iterdir())


@named(
    [
        ({"accelerator": ["cpu"]}, "accelerator: expected one of auto, cpu"),
        *(({"device": value}, "device: expected 'auto', a number, or a name") for value in (1.5, [0], None, -3)),
        ({"prefix": 5}, "prefix: expected a name, found 5"),
        ({"allowed_classes_names_list": "TOTALVI"}, "allowed_classes_names_list: expected a list of names of classes"),
    ]
)
def test_loading(saved: Path, arguments: dict[str, Any], message: str) -> None:
    refused(lambda: TOTALANVI.load(saved, **arguments), f"^{message}")


@pytest.mark.parametrize("device", ["bogus", None, 1.5, -3, 999, "cuda:999"])
def test_moving(model: TOTALANVI, device: Any) -> None:
    refused(lambda: model.to_device(device), "^device: expected")


# Plots, simulation


def test_plots(model: TOTALANVI) -> None:
    anything: Any = 5
    refused(lambda: plot_history(anything), "model: expected TrainableModel or Mapping, found int")
    refused(lambda: plot_history({"elbo_train": anything}), r"history\['elbo_train'\]: expected DataFrame, found int")
    refused(lambda: plot_history(model, anything), "metrics: expected a list of metrics, found 5")
    refused(lambda: plot_confusion(anything, ["B"]), r"true: expected a list of labels, .* an array of shape \(\)")
    refused(lambda: plot_confusion([["B"]], [["B"]]), r"true: expected a list of labels, .* an array of shape \(1, 1\)")  # type: ignore[list-item]
    refused(lambda: plot_confusion(["B"], ["B"], normalize=anything), "normalize: expected True or False, found 5")
    refused(lambda: plot_confusion(["B"], ["B"], ax=anything), "ax: expected Axes, found int")
    refused(lambda: plot_protein(anything, "CD3"), "model: expected BaseModel, found int")
    refused(lambda: plot_protein(model, "CD3", ax=anything), "ax: expected Axes, found int")
    refused(lambda: plot_attributions(anything), "frame: expected DataFrame, found int")
    texts = pd.DataFrame({"feature": ["a"], "modality": ["rna"], "attribution_mean": ["x"]})
    refused(lambda: plot_attributions(texts), "Expected numbers in 'attribution_mean', found values of type")


@pytest.mark.parametrize("name", ["n_cells", "n_genes", "n_proteins", "n_labels", "n_batches", "seed"])
@pytest.mark.parametrize("value", ["x", 30.5, None])
def test_simulation(name: str, value: Any) -> None:
    refused(lambda: simulate(**{name: value}), f"{name}: expected a whole number of at least")


# Flags

NEEDED: dict[str, Callable[[md.MuData, TOTALANVI, Path], dict[str, Any]]] = {
    "get_anndata_manager": lambda mdata, model, folder: {"adata": mdata},
    "prepare_query_anndata": lambda mdata, model, folder: {"adata": mdata["rna"], "reference_model": model},
    "prepare_query_mudata": lambda mdata, model, folder: {"mdata": mdata, "reference_model": model},
    "load_query_data": lambda mdata, model, folder: {"adata": mdata, "reference_model": model},
    "save": lambda mdata, model, folder: {"dir_path": folder / "saved"},
    "differential_expression": lambda mdata, model, folder: {"groupby": "cell_type"},
    "convert_legacy_save": lambda mdata, model, folder: {"dir_path": folder, "output_dir_path": folder / "saved"},
}
FLAGS = [
    (method, parameter.name)
    for method, function in inspect.getmembers(TOTALANVI, callable)
    if not method.startswith("_")
    for parameter in inspect.signature(function).parameters.values()
    if "bool" in str(parameter.annotation).split(" | ")
]


@pytest.mark.parametrize(("method", "flag"), FLAGS)
def test_a_text_is_no_flag(
    trained: TOTALANVI, reference_mdata: md.MuData, tmp_path: Path, method: str, flag: str
) -> None:
    needed = NEEDED.get(method, lambda mdata, model, folder: {})(reference_mdata, trained, tmp_path)
    refused(
        lambda: getattr(trained, method)(**needed, **{flag: "no"}),
        f"{flag}: expected True or False, found 'no'; choose one of them",
    )
    assert not list(tmp_path.iterdir())


def test_the_flags_are_found() -> None:
    assert {("train", "progress"), ("predict", "soft"), ("save", "overwrite")} < set(FLAGS)
