"""Labels such as "Unknown" that nobody has named as "not labelled": they are types, with a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from tests.support.command_line import QuietRun
from tests.support.reference_cells import PROTEINS, draw_adata

from totalanvi.training import TOTALANVI, TOTALVI
from totalanvi.training.checkpoints.checkpoint import read_checkpoint


def warned(kind: type[TOTALVI], words: list[str], **columns: object) -> list[str]:
    """Warnings when a model is made of cells with these cell types."""
    adata = draw_adata()
    adata.obs["kind"] = words * (adata.n_obs // len(words))
    kind.setup_anndata(adata, PROTEINS, **columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        kind(adata)
    return [str(warning.message) for warning in caught if "learned like any cell type" in str(warning.message)]


@pytest.mark.parametrize("word", ["unknown", "Unknown", "UNASSIGNED", "nan", "N/A", "Not_labelled", "not annotated"])
def test_what_mostly_means_not_labelled_is_warned_of(word: str) -> None:
    (message,) = warned(TOTALANVI, ["B", "T", word, "T"], labels_key="kind")
    assert message == (
        f"Cells called {word} in obs['kind'] are learned like any cell type: if they have no label, name what they are "
        "called (unlabeled_category=, --unlabeled)."
    )


@pytest.mark.parametrize(
    ("kind", "words", "columns"),
    [
        (TOTALANVI, ["B", "T", "unknown", "T"], {"labels_key": "kind", "unlabeled_category": "unknown"}),
        (TOTALANVI, ["B", "T", "Unknown", "nan"], {"labels_key": "kind", "unlabeled_category": ["Unknown", "nan"]}),
        (TOTALANVI, ["B", "T", "unknown lymphocyte", "T"], {"labels_key": "kind"}),
        # Nothing is learned from them: a TotalANVI model of it names what is not labelled.
        (TOTALVI, ["B", "T", "unknown", "T"], {"labels_key": "kind"}),
    ],
    ids=["named", "both named", "a type", "totalvi"],
)
def test_what_is_named_or_no_such_word_is_not(
    kind: type[TOTALVI], words: list[str], columns: dict[str, object]
) -> None:
    assert warned(kind, words, **columns) == []


def test_one_that_is_named_does_not_stand_for_others() -> None:
    (message,) = warned(TOTALANVI, ["B", "T", "Unknown", "nan"], labels_key="kind", unlabeled_category="nan")
    assert "Cells called Unknown in" in message


def test_the_command_line_tells_and_trains(run: QuietRun, tmp_path: Path) -> None:
    draw_adata().write_h5ad(tmp_path / "reference.h5ad")
    words = ("train", tmp_path / "reference.h5ad", "--labels", "kind", "--max-epochs", 1, "--device", "cpu")
    code, said = run(*words, "--no-readout", "-o", tmp_path / "checkpoint")
    assert code == 0, said
    assert said.count("Warning: Cells called unknown in obs['kind'] are learned like any cell type") == 1
    assert read_checkpoint(tmp_path / "checkpoint").registry.labels == ("B", "T", "unknown")
