"""Pictures show the numbers that they are given, under the names that users know."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import mudata as md
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.training import TOTALANVI, TOTALVI, ArgumentError
from totalanvi.training.plots import plot_attributions, plot_confusion, plot_history, plot_protein

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def names(ticks: Any) -> list[str]:
    return [label.get_text() for label in ticks]


# History


def test_history_draws_both_splits_of_a_metric(trained: TOTALANVI) -> None:
    axes = plot_history(trained)
    assert [line.get_label() for line in axes.lines] == ["ELBO, train", "ELBO, validation"]
    for line, key in zip(axes.lines, ("elbo_train", "elbo_validation"), strict=True):
        assert np.array_equal(line.get_xdata(), range(15))
        assert np.array_equal(line.get_ydata(), trained.history[key][key])
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", "ELBO")


def test_history_draws_the_metrics_that_are_named(trained: TOTALANVI) -> None:
    """The split stands before or after the name; some metrics have one or none."""
    metrics = ["classification_loss", "validation_accuracy", "kl_weight", "validation_f1_score", "elbo_validation"]
    axes = plot_history(trained.history, metrics)
    drawn = {line.get_label(): line for line in axes.lines}
    keys = {
        "Classification loss, train": "train_classification_loss",
        "Classification loss, validation": "validation_classification_loss",
        "Validation accuracy": "validation_accuracy",
        "KL weight": "kl_weight",
        "Validation F1 score": "validation_f1_score",
        "ELBO validation": "elbo_validation",
    }
    assert drawn.keys() == keys.keys()
    for label, key in keys.items():
        assert np.array_equal(drawn[label].get_ydata(), trained.history[key][key])
    assert len({line.get_color() for line in axes.lines}) == len(metrics)
    assert names(axes.get_legend().get_texts()) == list(keys)


def test_history_of_one_epoch_is_seen(trained: TOTALANVI) -> None:
    history = {"elbo_train": trained.history["elbo_train"].iloc[:1]}
    (line,) = plot_history(history).lines
    assert line.get_marker() == "o"


def test_history_of_totalvi(trained_totalvi: TOTALVI) -> None:
    axes = plot_history(trained_totalvi, "reconstruction_loss")
    assert np.array_equal(axes.lines[0].get_ydata(), trained_totalvi.history["reconstruction_loss_train"].squeeze())


@pytest.mark.parametrize(
    ("history", "metrics", "message"),
    [
        ({}, "elbo", "Expected the history of a trained model, found an empty one; call its train"),
        (
            {"kl_weight": pd.DataFrame()},
            "elbow",
            r"metrics: expected metrics of the history \(kl_weight\), found 'elbow'",
        ),
        ({"kl_weight": pd.DataFrame()}, [], "metrics: expected names of metrics, found none"),
    ],
)
def test_history_that_cannot_be_drawn(history: dict[str, pd.DataFrame], metrics: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        plot_history(history, metrics)
    assert plt.get_fignums() == []


def test_history_of_a_model_that_is_not_trained(reference_mdata: md.MuData) -> None:
    model = TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False)
    with pytest.raises(ArgumentError, match="found an empty one"):
        plot_history(model)


# Confusion


def test_confusion_counts_every_cell(trained: TOTALANVI, truth: npt.NDArray[np.str_]) -> None:
    predicted = trained.predict()
    axes = plot_confusion(truth, predicted, normalize=False)
    shown = axes.images[0].get_array()
    assert shown.sum() == 400
    assert np.array_equal(shown, pd.crosstab(truth, predicted))
    assert shown.trace() == (truth == predicted).sum()
    assert names(axes.get_xticklabels()) == names(axes.get_yticklabels()) == list(trained.registry.labels)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted", "True")
    written = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert written == {(i, j): str(n) for (i, j), n in np.ndenumerate(shown) if n > 0}


def test_confusion_shares_sum_to_one_over_a_true_type(trained: TOTALANVI, truth: npt.NDArray[np.str_]) -> None:
    predicted = trained.predict()
    shown = plot_confusion(pd.Series(truth).astype("category"), predicted).images[0].get_array()
    assert np.allclose(shown.sum(axis=1), 1)
    for i, label in enumerate(trained.registry.labels):
        assert shown[i, i] == pytest.approx((predicted == label)[truth == label].mean())


def test_confusion_leaves_a_type_without_cells_open() -> None:
    axes = plot_confusion(["B", "B", "T"], ["B", "NK", "T"])
    shown = axes.images[0].get_array()
    assert names(axes.get_yticklabels()) == ["B", "NK", "T"]
    assert shown.filled(-1).tolist() == [[0.5, 0.5, 0], [-1, -1, -1], [0, 0, 1]]
    assert sorted(names(axes.texts)) == ["0.50", "0.50", "1.00"]


def test_confusion_of_many_labels_has_a_colour_bar() -> None:
    labels = [f"type {i}" for i in range(30)]
    axes = plot_confusion(labels, labels)
    assert len(axes.texts) == 0
    assert [other.get_ylabel() for other in axes.figure.axes] == ["True", "Share of the true type"]


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        (["B"], ["B", "T"], "Expected true and predicted labels of the same cells, found 1 and 2"),
        ([], [], "Expected labels of cells, found none"),
        (["B", None], ["B", "T"], "true: expected a label for every cell, found 1 cells without"),
        (["B", "T"], [float("nan"), float("nan")], "predicted: expected a label for every cell, found 2"),
    ],
)
def test_confusion_that_cannot_be_drawn(true: list[Any], predicted: list[Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        plot_confusion(true, predicted)


# Proteins


def bars(axes: Axes, part: str) -> pd.DataFrame:
    """Return left edge, width and height of the bars of ``part``."""
    (container,) = (container for container in axes.containers if container.get_label() == part)
    return pd.DataFrame([(bar.get_x(), bar.get_width(), bar.get_height()) for bar in container], columns=[*"xwh"])


def levels(axes: Axes) -> tuple[float, float]:
    """Expected counts of background and foreground."""
    background, foreground = (float(np.expm1(line.get_xdata()[0])) for line in axes.lines)
    return background, foreground


def test_protein_bars_hold_every_cell(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    for protein in trained.registry.proteins[:3]:
        axes = plot_protein(trained, protein)
        background, foreground = bars(axes, "Background"), bars(axes, "Foreground")
        counts = np.log1p(reference_mdata["prot"][:, protein].X.toarray().ravel())
        expected, _ = np.histogram(counts, [*background["x"], np.inf])
        assert np.allclose((background["h"] + foreground["h"]) * background["w"] * 400, expected)
        ends = (background["x"] + background["w"]).to_numpy()
        assert np.allclose(ends[:-1], background["x"][1:])
        assert ends[-1] > counts.max()
        probability = trained.get_protein_foreground_probability(protein_list=[protein], n_samples=10)
        assert (foreground["h"] * foreground["w"]).sum() == pytest.approx(probability.to_numpy().mean(), abs=0.03)
        assert axes.get_title() == protein


def test_protein_foreground_lies_where_counts_are_high(trained: TOTALANVI) -> None:
    axes = plot_protein(trained, trained.registry.proteins[0])
    background, foreground = bars(axes, "Background"), bars(axes, "Foreground")
    high = background["x"] > np.log1p(levels(axes)).mean()
    assert foreground["h"][high].sum() > 3 * background["h"][high].sum()
    assert background["h"][~high].sum() > 3 * foreground["h"][~high].sum()


def test_protein_levels_are_those_of_the_truth(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    """The model is trained for a moment only, so that a factor of two is near."""
    prot = reference_mdata["prot"]
    found, true = [], []
    for i, protein in enumerate(prot.var_names):
        axes = plot_protein(trained, protein)
        found.append(levels(axes))
        background, foreground = prot.layers["background_mean"][:, i], prot.layers["foreground_mean"][:, i]
        on = foreground > 0
        true.append([np.exp(np.log(background).mean()), np.exp(np.log((background + foreground)[on]).mean())])
        assert [f"expected {level:,.0f}" in text for level, text in zip(found[-1], names(axes.texts), strict=True)]
        plt.close(axes.figure)
    error = np.log2(np.array(found) / np.array(true))
    assert np.abs(np.median(error, axis=0)).max() < 1
    assert np.corrcoef(np.log(found)[:, 1], np.log(true)[:, 1])[0, 1] > 0.9


def test_protein_of_some_cells(trained: TOTALANVI, reference_mdata: md.MuData) -> None:
    protein = trained.registry.proteins[1]
    some = plot_protein(trained, protein, indices=range(50))
    with not_pulling():
        less = md.MuData({"rna": reference_mdata["rna"].copy(), "prot": reference_mdata["prot"][:50].copy()})
    # Cells without proteins are left out; those with them do not notice.
    of_less = plot_protein(trained, protein, less)
    for part in ("Background", "Foreground"):
        assert np.allclose(bars(some, part), bars(of_less, part), atol=1e-4)
    assert np.allclose(levels(some), levels(of_less), rtol=1e-3)
    with pytest.raises(ArgumentError, match=rf"Expected cells that measured {protein}, found none"):
        plot_protein(trained, protein, less, indices=[50, 60])


def test_protein_that_the_model_does_not_know(trained: TOTALANVI) -> None:
    with pytest.raises(ArgumentError, match=r"protein: expected one of the model's \(CD501, .*\), found 'CD9'"):
        plot_protein(trained, "CD9")


# Attributions


@pytest.fixture
def attributions() -> pd.DataFrame:
    """A frame as of `predict`, not sorted, with a gene and a protein of one name."""
    return pd.DataFrame(
        {
            "feature": ["CD4", "CD3E", "LYZ", "CD4", "CD19"],
            "feature_idx": range(5),
            "modality": ["rna", "rna", "rna", "prot", "prot"],
            "attribution_mean": [0.3, 0.1, -0.2, 0.7, 0.5],
            "attribution_std": 0.1,
            "cells": 10,
        }
    )


def test_attributions_are_bars_in_order(attributions: pd.DataFrame) -> None:
    axes = plot_attributions(attributions, n=4)
    assert names(axes.get_yticklabels()) == ["CD4", "CD19", "CD4", "CD3E"]
    drawn = sorted((round(bar.get_y() + bar.get_height() / 2), bar.get_width()) for bar in axes.patches)
    assert drawn == [(0, 0.7), (1, 0.5), (2, 0.3), (3, 0.1)]
    assert axes.yaxis_inverted()
    colour = dict(zip(names(axes.get_legend().get_texts()), axes.get_legend().get_patches(), strict=True))
    assert colour.keys() == {"rna", "prot"}
    by_bar = {bar.get_width(): to_hex(bar.get_facecolor()) for bar in axes.patches}
    assert by_bar[0.7] == by_bar[0.5] == to_hex(colour["prot"].get_facecolor())
    assert by_bar[0.3] == by_bar[0.1] == to_hex(colour["rna"].get_facecolor())


def test_attributions_fewer_than_wanted(attributions: pd.DataFrame) -> None:
    axes = plot_attributions(attributions)
    assert sorted(bar.get_width() for bar in axes.patches) == [-0.2, 0.1, 0.3, 0.5, 0.7]
    # A modality keeps its colour when no feature of the other reaches the top.
    alone = plot_attributions(attributions[attributions["feature"] != "CD19"], n=1)
    assert to_hex(alone.patches[0].get_facecolor()) == to_hex(axes.get_legend().get_patches()[0].get_facecolor())


def test_attributions_that_cannot_be_drawn(attributions: pd.DataFrame) -> None:
    with pytest.raises(ArgumentError, match="n: expected a whole number of at least 1, found 0"):
        plot_attributions(attributions, n=0)
    with pytest.raises(ArgumentError, match="found none of the name modality, attribution_mean;"):
        plot_attributions(attributions[["feature"]])
    with pytest.raises(ArgumentError, match="Expected attributions of features, found no row"):
        plot_attributions(attributions.iloc[:0])


# All of them


def test_axes_that_are_given_are_drawn_on(trained: TOTALANVI, attributions: pd.DataFrame) -> None:
    figure, ((history, confusion), (protein, bar)) = plt.subplots(2, 2)
    assert plot_history(trained, ax=history) is history
    assert plot_confusion(["B", "T"], ["B", "B"], ax=confusion) is confusion
    assert plot_protein(trained, trained.registry.proteins[0], ax=protein) is protein
    assert plot_attributions(attributions, ax=bar) is bar
    assert plt.get_fignums() == [figure.number]
    figure.canvas.draw()
    new = plot_confusion(["B", "T"], ["B", "B"])
    assert new.figure is not figure


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"it is not installed; pip install 'totalanvi\[plots\]'\."):
        plot_confusion(["B", "T"], ["B", "B"])
