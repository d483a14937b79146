"""From a saved model of scvi-tools to an endpoint, in two commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import typer
from tests.reference.saves import Save, save_named
from typer.testing import CliRunner

from totalanvi.export import ExportError, export_bundle
from totalanvi.machine.still_going import still_going
from totalanvi.serving import load_reference
from totalanvi.training import TOTALANVI, TOTALVI, CheckpointError
from totalanvi.training.cli_import import import_scvi
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.inputs import EncoderInputs
from totalanvi.training.scvi_import.checkpoint import import_scvi as import_model
from totalanvi.training.scvi_import.saves import read_save

SAVE = save_named("totalanvi_missing")

Run = Callable[..., str]


@pytest.fixture
def run() -> Run:
    """Run the sub-command in this process and return what it said; an error of ours is raised."""
    app = typer.Typer()
    app.command()(import_scvi)

    def act(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0
        return result.stderr

    return act


@pytest.mark.parametrize(
    ("save", "proteins"), [(SAVE, "protein_by_batch"), (save_named("totalanvi_classifier"), "protein")], ids=str
)
def test_an_imported_model_is_exported_and_maps_queries(save: Save, proteins: str, run: Run, tmp_path: Path) -> None:
    """With proteins that a batch lacks, and with covariates of which a query tells nothing."""
    save.data().write_h5ad(tmp_path / "reference.h5ad")
    said = run(save.folder, "-o", tmp_path / "checkpoint", "--data", tmp_path / "reference.h5ad")
    assert "Imported a TOTALANVI of scvi-tools 1.5.1 (25 genes, 6 proteins, 2 batches, 3 labels)" in said
    split = read_save(save.folder).split
    assert split is not None
    n_train = len(split.train)
    assert f"For export, {n_train} cells of the reference and {72 - n_train} that are held out travel" in said

    reference = load_reference(export_bundle(tmp_path / "checkpoint", tmp_path / "bundle"))
    mapped = reference.map(save.data(), proteins=proteins)
    model = import_model(save.folder, save.data())
    latent, probabilities = as_a_query(model)
    np.testing.assert_allclose(mapped.obsm["X_totalanvi"], latent, rtol=1e-4, atol=1e-5)
    # Calibration makes labels more or less sure, and no other label likelier.
    labels = model.registry.labels
    assert list(mapped.obs["totalanvi_guess"]) == [labels[i] for i in probabilities.argmax(axis=1)]
    assert list(mapped.obsm["totalanvi_probabilities"].columns) == list(labels)
    assert np.isfinite(mapped.obsm["totalanvi_protein"].to_numpy()).all()


@torch.inference_mode()
def as_a_query(model: TOTALVI) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What the model makes of its own cells when it is told neither their batch nor their covariates."""
    module = model.module
    assert isinstance(module, TotalANVAE)
    known = EncoderInputs.of(model._reference_cells().to_batch(), module.dims)
    no_batch = torch.zeros_like(known.covariates.batch)
    z, _ = module.encode(replace(known, covariates=module.usual_covariates(no_batch)))
    latent = module.transform(z.mean)
    return latent.numpy(), module.classify(latent).softmax(dim=-1).numpy()


def test_importing_that_takes_long_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("totalanvi.machine.still_going.still_going", partial(still_going, every=0.001))
    said = run(SAVE.folder, "-o", tmp_path / "checkpoint")
    assert re.match(r"(Importing the model: \d+ s so far\n)+Imported a TOTALANVI", said)


def test_without_data_it_says_what_is_missing_for_export(run: Run, tmp_path: Path) -> None:
    said = run(SAVE.folder, "--output", tmp_path / "checkpoint")
    assert "import it once more with --data REFERENCE.h5ad" in said
    with pytest.raises(ExportError, match="expected two cells or more of the reference"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")


def test_what_is_there_is_not_replaced_unasked(run: Run, tmp_path: Path) -> None:
    run(SAVE.folder, "-o", tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="--overwrite") as caught:
        run(SAVE.folder, "-o", tmp_path / "checkpoint")
    assert caught.value.exit_code == 2
    run(SAVE.folder, "-o", tmp_path / "checkpoint", "--overwrite")


def test_warnings_are_said(run: Run, tmp_path: Path) -> None:
    SAVE.data()[:50].copy().write_h5ad(tmp_path / "part.h5ad")
    said = run(SAVE.folder, "-o", tmp_path / "checkpoint", "--data", tmp_path / "part.h5ad")
    assert "Warning: The save does not tell which of these cells trained the model" in said


def test_a_folder_without_a_model_is_an_error_that_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Expected model.pt in .*; give the folder that holds it"):
        run(tmp_path, "-o", tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_what_bundles_do_not_promise_is_not_exported(tmp_path: Path) -> None:
    """The encoders of old versions see counts as they are."""
    old = save_named("totalvi", "1.1.6")
    totalvi = import_model(old.folder, old.data())
    model = TOTALANVI.from_totalvi_model(totalvi, unlabeled_category="Ambiguous", labels_key="cell_type")
    model.train(max_epochs=1, accelerator="cpu")
    model.save(tmp_path / "checkpoint")
    with pytest.raises(ExportError, match=r"divides counts by a cell's mean, .* found one with scale_inputs=False"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
