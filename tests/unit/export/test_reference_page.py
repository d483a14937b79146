"""What a bundle says of itself to people: its page, its model card, and the figures in them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.support.pages import Node, parse_page, references_elsewhere

from totalanvi.export.bundle import export_bundle
from totalanvi.export.errors import TargetError
from totalanvi.export.held_out_figures import COVERAGES_SHOWN, HeldOutFigures, held_out_figures
from totalanvi.export.model_card import checked_licence, model_card
from totalanvi.export.reference_page import ReferenceReport, reference_page
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import Manifest
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.bundles.modes import MODES
from totalanvi.serving.errors import BundleError
from totalanvi.training.checkpoints.checkpoint import read_checkpoint

SECTIONS = [
    *("What it is", "Training curves", "Labels of held-out cells", "Calibration", "Label sets", "Proteins from RNA"),
    *("Who measured what", "Fewer genes", "Map", "Same as torch", "How to cite"),
]
HOSTILE = "<script>alert(1)</script> | `x` *y* [z](http://example.org)"


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def page(bundle: Path) -> Node:
    parsed = parse_page((bundle / "report.html").read_text(encoding="utf-8"))
    assert references_elsewhere(parsed) == []
    return parsed


def markdown(card: str) -> tuple[dict[str, Any], list[Token]]:
    """Return what a card says at its head, and what a Markdown parser makes of the rest, blocks and what is in them."""
    _, head, body = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    blocks = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    return yaml.safe_load(head), [token for block in blocks for token in (block, *(block.children or []))]


def unmeasured(n_labels: int) -> HeldOutFigures:
    """Figures without any held-out cell."""
    return held_out_figures(np.zeros((0, n_labels)), np.zeros(0, int), np.zeros(0, int))


# The page


def test_a_page_has_all_sections(page: Node, opened: Bundle) -> None:
    assert page.all("h1")[0].text == f"Reference: simulated {opened.manifest.version}"
    assert [section.all("h2")[0].text for section in page.all("section")] == SECTIONS


def test_confusion_is_that_of_the_held_out_cells(page: Node, opened: Bundle) -> None:
    section = page.section("Labels of held-out cells")
    assert [title.text for title in section.all("h3")] == ["With proteins", "From RNA alone"]
    for mode, table in zip(("protein", "rna"), section.all("table"), strict=True):
        rows = [[cell.text for cell in row.all() if cell.tag in ("td", "th")] for row in table.all("tr")][1:]
        assert [row[0] for row in rows] == opened.manifest.labels
        calibration = opened.manifest.calibration[mode]
        n_cells = sum(int(row[1]) for row in rows)
        assert n_cells == calibration.n_cells > 50
        wrong = sum(int(n) for row in rows for n in re.findall(r"\((\d+)\)", row[3]))
        assert 1 - wrong / n_cells == pytest.approx(calibration.accuracy)


def test_figures_are_those_of_the_manifest(page: Node, opened: Bundle) -> None:
    manifest = opened.manifest
    summary = page.section("Calibration").all("table")[-1]
    rows = [[cell.text for cell in row.all() if cell.tag in ("td", "th")] for row in summary.all("tr")][1:]
    assert [float(row[2]) for row in rows] == pytest.approx(
        [manifest.calibration[mode].accuracy for mode in MODES], abs=5e-4
    )
    proteins = page.section("Proteins from RNA").rows()[1:]
    assert [row[0] for row in proteins] == manifest.proteins
    assert [float(row[2]) for row in proteins] == pytest.approx(
        [known.pearson for known in manifest.protein_reliability], abs=5e-4
    )
    asked = [row[0] for row in page.section("Label sets").rows()[1:]]
    assert [float(text.removesuffix(" %")) / 100 for text in asked] == pytest.approx(COVERAGES_SHOWN)
    held = [row[1] for row in page.section("Label sets").rows() if row[0] == "90 %"]
    expected = manifest.confidence["protein"].set_coverage
    assert held == [f"{100 * expected:.1f} %"]
    facts = dict(page.section("What it is").rows())
    assert facts["Data's SHA-256"] == manifest.provenance.data_digest
    shown = sum(len(path.attributes["d"].split("M")) - 1 for path in page.section("Map").all("svg")[0].all("path"))
    assert shown == len(opened.reference.label)


def test_training_curves_are_the_checkpoints(page: Node, checkpoint: Path) -> None:
    history = read_checkpoint(checkpoint).history
    section = page.section("Training curves")
    assert len(section.all("svg", class_="plot")) == 3
    rows = section.rows()[1:]
    assert [int(row[0]) for row in rows] == [int(epoch) for epoch in history["elbo_train"]]
    assert [float(row[1].replace(",", "")) for row in rows] == pytest.approx(
        list(history["elbo_train"].values()), rel=5e-3
    )


def test_a_reference_without_held_out_cells_says_so(opened: Bundle) -> None:
    nothing = unmeasured(len(opened.manifest.labels))
    thresholds = opened.manifest.thresholds.model_copy(update={"ablation": None})
    manifest = opened.manifest.model_copy(update={"thresholds": thresholds})
    report = ReferenceReport(manifest, opened.reference, dict.fromkeys(MODES, nothing), {})
    found = parse_page(reference_page(report))
    assert "how good its labels are was not measured" in found.all("p", class_="lead")[0].text
    for title in ("Labels of held-out cells", "Calibration", "Label sets", "Fewer genes", "Training curves"):
        assert found.section(title).all("svg") == []


def hostile(manifest: Manifest) -> Manifest:
    """The same with names that would be markup if they were not escaped."""
    return manifest.model_copy(
        update={
            "labels": [f"{HOSTILE} {name}" for name in manifest.labels],
            "proteins": [f"{HOSTILE} {name}" for name in manifest.proteins],
            "batches": [f"{HOSTILE} {name}" for name in manifest.batches],
            "parents": {},
        }
    )


def test_names_stay_text_on_the_page(opened: Bundle) -> None:
    figures = dict.fromkeys(MODES, unmeasured(len(opened.manifest.labels)))
    manifest = hostile(opened.manifest)
    found = parse_page(reference_page(ReferenceReport(manifest, opened.reference, figures, {})))
    assert references_elsewhere(found) == []
    assert found.section("Proteins from RNA").rows()[1][0] == manifest.proteins[0]


# The card


def test_a_card_has_what_hubs_read(bundle: Path) -> None:
    head, blocks = markdown((bundle / "README.md").read_text(encoding="utf-8"))
    assert head["license"] == "unknown"
    assert head["library_name"] == "totalanvi"
    assert {"single-cell", "cite-seq"} <= set(head["tags"])
    titles = [blocks[i + 1].content for i, block in enumerate(blocks) if block.type == "heading_open"]
    assert titles[1:] == [
        *("How to use", "What it was trained on", "Intended use", "Limits", "How good it is", "Citation")
    ]


def test_its_figures_are_those_of_the_manifest(bundle: Path, opened: Bundle) -> None:
    card = (bundle / "README.md").read_text(encoding="utf-8")
    manifest = opened.manifest
    found = manifest.calibration["rna"]
    row = f"| from RNA alone | {found.n_cells} | {found.accuracy:.3f} | {found.log_loss:.3f} |"
    assert row in card
    _, blocks = markdown(card)
    cells = [block.content for block in blocks if block.type == "inline"]
    for name in (*manifest.labels, *manifest.batches, *manifest.proteins):
        assert any(name in cell.replace("\\", "") for cell in cells), name
    assert f"`{manifest.provenance.data_digest}`" in card
    assert 'load_reference("simulated/")' in card


def test_names_stay_text_on_the_card(opened: Bundle) -> None:
    _, plain = markdown(model_card(opened.manifest))
    _, found = markdown(model_card(hostile(opened.manifest)))
    kinds = [token.type for token in found]
    for kind in ("html_block", "html_inline", "link_open", "em_open"):
        assert kind not in kinds
    for kind in ("th_open", "td_open", "tr_open", "list_item_open", "code_inline", "heading_open"):
        assert kinds.count(kind) == [token.type for token in plain].count(kind)
    names = " ".join(token.content for token in found if token.type == "text")
    assert HOSTILE.split(" |")[0] in names


def test_a_licence_is_a_short_name(opened: Bundle) -> None:
    assert markdown(model_card(opened.manifest, "cc-by-4.0"))[0]["license"] == "cc-by-4.0"
    assert checked_licence("cc-by-4.0") == "cc-by-4.0"
    for bad in ("", "CC BY", "mit\nfoo: bar", "a" * 80):
        with pytest.raises(TargetError, match=r"license: expected .+, found .+; choose"):
            checked_licence(bad)


def test_a_licence_that_is_none_is_refused_before_any_work(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="license"):
        export_bundle(checkpoint, tmp_path / "bundle", licence="a b")
    assert list(tmp_path.iterdir()) == []


def test_card_and_page_are_verified_but_not_required(bundle: Path, tmp_path: Path) -> None:
    for name in ("README.md", "report.html"):
        copied = shutil.copytree(bundle, tmp_path / name.replace(".", "-"))
        (copied / name).write_text("something else")
        with pytest.raises(BundleError, match=f"'{name}' has been altered"):
            Bundle.open(copied)
    older = shutil.copytree(bundle, tmp_path / "older")
    manifest = Bundle.open(older).manifest
    files = {name: record for name, record in manifest.files.items() if name not in ("README.md", "report.html")}
    for name in ("README.md", "report.html"):
        (older / name).unlink()
    write_manifest(older, manifest.model_copy(update={"files": files}))
    assert Bundle.open(older).manifest.files == files


# The figures


def test_figures_of_cells_that_are_known() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=2000)
    given = np.where(rng.random(2000) < 0.8, label, (label + 1) % 3)
    logits = np.log(np.where(given[:, None] == np.arange(3), 0.8, 0.1))
    known = np.where(np.arange(2000) % 10 == 0, -1, label)
    found = held_out_figures(logits, known, np.arange(2000))
    assert found.confusion.sum() == found.n_cells.sum() == 1800
    right = (given == label)[known >= 0].mean()
    assert np.trace(found.confusion) / 1800 == pytest.approx(right)
    assert found.n_cells.tolist() == [0] * 8 + [1800, 0] or found.n_cells.tolist() == [0] * 7 + [1800, 0, 0]
    step = int(found.n_cells.argmax())
    assert found.confidence[step] == pytest.approx(0.8)
    assert found.accuracy[step] == pytest.approx(right)
    assert np.isnan(found.accuracy[np.arange(10) != step]).all()
    assert np.all(np.diff(found.coverage) >= 0)
    assert found.coverage[-1] == 1


def test_too_few_cells_have_no_coverage() -> None:
    found = held_out_figures(np.zeros((5, 2)), np.zeros(5, int), np.arange(5))
    assert np.isnan(found.coverage).all()
    assert found.confusion.sum() == 5
