"""The demo's parts: scores against a known truth, the picture, the endpoint's process, and what it may replace."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import mudata as md
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from tests.support.toy_bundle import toy_query, write_toy_bundle

from totalanvi.export.demo import run_demo
from totalanvi.export.demo_endpoint import running_endpoint, show_page
from totalanvi.export.demo_picture import COLOURS, draw_map, map_figure
from totalanvi.export.demo_scores import score_query
from totalanvi.export.errors import DemoError, TargetError
from totalanvi.serving.client import Client
from totalanvi.serving.errors import EndpointError
from totalanvi.training.simulation.simulate import simulate_query

SIZES = {"n_genes": 100, "n_proteins": 6, "n_labels": 4, "seed": 0}


@pytest.fixture
def complete() -> md.MuData:
    return simulate_query(200, **SIZES, without_proteins=0)


@pytest.fixture
def annotated(complete: md.MuData) -> md.MuData:
    """Return a query as a perfect reference would annotate it: it knows the truth, but for the unseen type."""
    query = simulate_query(200, **SIZES)
    rna = query["rna"]
    truth = rna.obs["cell_type"].astype(str)
    unseen = truth == query.uns["simulation"]["unseen_label"]
    rna.obs["totalanvi_label"] = pd.Categorical(truth.where(~unseen, "unknown"))
    rna.obs["totalanvi_guess"] = pd.Categorical(truth.where(~unseen, truth[~unseen].iloc[0]))
    rna.obs["totalanvi_confidence"] = np.where(unseen, 0.4, 0.9).astype(np.float32)
    rna.obs["totalanvi_novelty"] = np.where(unseen, 0.99, 0.5).astype(np.float32)
    rna.obsm["X_totalanvi_map"] = rna.obsm["X_true"][:, :2]
    rna.obsm["totalanvi_protein"] = pd.DataFrame(
        complete["prot"].X.toarray(), index=rna.obs_names, columns=list(complete["prot"].var_names)
    )
    return query


def test_a_perfect_annotation_scores_best(annotated: md.MuData, complete: md.MuData) -> None:
    scores = score_query(annotated, complete)
    assert scores.accuracy == scores.accuracy_with_proteins == scores.accuracy_without_proteins == 1
    assert scores.novelty_auroc == scores.flagged_unseen == 1
    assert scores.flagged_known == 0
    assert scores.confidence == pytest.approx(0.9)
    assert list(scores.imputation.index) == list(complete["prot"].var_names)
    assert np.allclose(scores.imputation, 1)


def test_only_hidden_proteins_of_known_types_are_judged(annotated: md.MuData, complete: md.MuData) -> None:
    rna, imputed = annotated["rna"], annotated["rna"].obsm["totalanvi_protein"]
    measured = rna.obs_names.isin(annotated["prot"].obs_names)
    unseen = rna.obs["cell_type"] == complete.uns["simulation"]["unseen_label"]
    imputed.loc[measured | unseen] = 0
    assert np.allclose(score_query(annotated, complete).imputation, 1)
    imputed.loc[~measured] = imputed.loc[~measured].sample(frac=1, random_state=0).to_numpy()
    assert score_query(annotated, complete).imputation.mean() < 0.5


def test_wrong_labels_are_counted_where_they_are(annotated: md.MuData, complete: md.MuData) -> None:
    obs = annotated["rna"].obs
    measured = obs.index.isin(annotated["prot"].obs_names)
    labels = obs["totalanvi_guess"].cat.categories
    wrong = obs["totalanvi_guess"].map(dict(zip(labels, np.roll(labels, 1), strict=True)))
    obs["totalanvi_guess"] = obs["totalanvi_guess"].where(measured, wrong)
    scores = score_query(annotated, complete)
    assert scores.accuracy_with_proteins == 1
    assert scores.accuracy_without_proteins == 0
    assert 0 < scores.accuracy < 1


def test_the_picture_is_a_picture(tmp_path: Path, annotated: md.MuData) -> None:
    rng = np.random.default_rng(0)
    unseen_label = annotated.uns["simulation"]["unseen_label"]
    draw_map(annotated, rng.normal(size=(50, 2)).astype(np.float32), unseen_label, tmp_path / "map.png")
    picture = (tmp_path / "map.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_unknown_has_no_label_s_colour_and_takes_none_from_them(annotated: md.MuData) -> None:
    obs, place = annotated["rna"].obs, annotated["rna"].obsm["X_totalanvi_map"]
    background = np.zeros((3, 2), np.float32)

    def colours() -> dict[str, tuple[float, ...]]:
        """Colour of each label's cells, by where they are."""
        drawn = map_figure(annotated, background, "nothing").axes[0].collections
        found = {}
        for label in obs["totalanvi_label"].unique():
            cells = place[(obs["totalanvi_label"] == label).to_numpy()]
            (dots,) = (dots for dots in drawn if np.array_equal(np.asarray(dots.get_offsets()), cells))
            found[label] = tuple(dots.get_facecolor()[0])
        return found

    found = colours()
    unknown = found.pop("unknown")
    assert unknown[0] == unknown[1] == unknown[2], "grey"
    assert all(len(set(colour[:3])) > 1 for colour in found.values())
    obs["totalanvi_label"] = obs["totalanvi_label"].cat.reorder_categories(["unknown", *found])
    labels = obs["totalanvi_label"].cat.categories[1:]
    assert [colours()[label] for label in labels] == [to_rgba(colour) for colour in COLOURS[: len(labels)]]


def test_the_endpoint_runs_while_it_is_needed(tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "bundle")
    with running_endpoint(bundle, tmp_path) as url, Client(url) as client:
        assert client.map(toy_query()).obs["totalanvi_label"].notna().all()
    with pytest.raises(EndpointError), Client(url, retries=0) as client:
        client.info()


def test_an_endpoint_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(DemoError, match=r"found that it ended early\. It wrote:\n.*expected the folder of a bundle"),
        running_endpoint(tmp_path / "nothing", tmp_path),
    ):
        pass


class Visitor(io.StringIO):
    """Somebody at a terminal who opens the address that was printed last, and then presses Enter, or Ctrl+C."""

    def __init__(self, printed: pytest.CaptureFixture[str], interrupts: bool) -> None:
        super().__init__()
        self.printed = printed
        self.interrupts = interrupts

    def readline(self, size: int | None = -1, /) -> str:
        self.url = self.printed.readouterr().out.splitlines()[-1]
        self.page = httpx.get(self.url)
        if self.interrupts:
            raise KeyboardInterrupt
        return "\n"


@pytest.mark.parametrize("interrupts", [False, True], ids=["enter", "ctrl-c"])
def test_the_page_is_there_for_whoever_sits_at_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interrupts: bool
) -> None:
    write_toy_bundle(tmp_path / "bundle")
    visitor = Visitor(capsys, interrupts)
    show_page(tmp_path, visitor)
    assert visitor.page.is_success
    assert "<title>Map cells to a reference</title>" in visitor.page.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(visitor.url)


def test_nothing_but_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "map.png").touch()
    with pytest.raises(TargetError, match=r"Expected no earlier demo in .*, found one"):
        run_demo(tmp_path)
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(TargetError, match=r"found 'thesis\.docx'"):
        run_demo(tmp_path, overwrite=True)
    with pytest.raises(TargetError, match="found a file"):
        run_demo(tmp_path / "map.png", overwrite=True)
    with pytest.raises(TargetError, match=r"Expected a folder in which to make .*, which is a file; choose another"):
        run_demo(tmp_path / "map.png" / "demo")
    assert (tmp_path / "map.png").exists()
