"""The whole job on few cells: what `totalanvi demo` does, with nothing left out."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import mudata as md
import pytest

from totalanvi.export import demo
from totalanvi.export.demo import DemoSize, run_demo
from totalanvi.export.demo_folder import PRODUCTS
from totalanvi.formats.mudata_options import not_pulling
from totalanvi.machine.still_going import still_going
from totalanvi.serving.mapping.local import LocalReference

SMALL = DemoSize(n_cells=600, n_query=200, n_genes=150, n_proteins=6, n_labels=4, max_epochs=25)


def test_the_main_job_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "still_going", partial(still_going, every=0.02))
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "map.png").write_text("of an earlier demo")
    scores = run_demo(folder, seed=1, overwrite=True, size=SMALL)
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(PRODUCTS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo"]
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")

    assert scores.accuracy > 0.8
    assert scores.accuracy_without_proteins > 0.6
    assert scores.imputation.mean() > 0.4
    assert scores.novelty_auroc > 0.6
    assert scores.flagged_known < 0.25

    printed, said = capsys.readouterr()
    alive = set(re.findall(r"^(.+): \d+ s so far$", said, re.MULTILINE))
    assert {"Start the endpoint", "Writing encoder.onnx", "Comparing with torch", "Drawing the map"} <= alive
    assert not any(line.startswith("Train ") for line in alive), "training tells of itself"
    for text in ("Label accuracy, known types", "CD501", "Novelty of the unseen type", "Train on 600 cells", "All"):
        assert text in printed
    for product in PRODUCTS:
        assert product in printed

    with not_pulling():
        annotated = md.read(folder / "query_annotated.h5mu")
    assert annotated.n_obs == 200
    assert annotated["rna"].obsm["totalanvi_protein"].shape == (200, 6)
    again = LocalReference(folder / "bundle").map(annotated["rna"], proteins="none", impute=False)
    assert again.obs["totalanvi_label"].notna().all()
    # What the page is to be tried with.
    query = LocalReference(folder / "bundle").map(folder / "query.h5mu", impute=False)
    assert list(query["rna"].obs["totalanvi_guess"]) == list(annotated["rna"].obs["totalanvi_guess"])
