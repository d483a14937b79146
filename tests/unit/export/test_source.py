"""Which checkpoints can be served, and what becomes of proteins that nobody measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mudata as md
import numpy as np
import pytest
import torch

from totalanvi.export import export_bundle
from totalanvi.export.errors import ExportError, SourceError
from totalanvi.export.source import read_source
from totalanvi.training import TOTALANVI, TOTALVI, CheckpointError
from totalanvi.training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from totalanvi.training.network.inputs import EncoderInputs


def test_a_model_without_labels_is_refused(reference_mdata: md.MuData, tmp_path: Path) -> None:
    TOTALVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False).save(tmp_path / "checkpoint")
    with pytest.raises(SourceError, match=r"of TOTALANVI, found one of TOTALVI, .*from_totalvi"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_model_that_was_not_trained_is_refused(reference_mdata: md.MuData, tmp_path: Path) -> None:
    TOTALANVI(reference_mdata, n_hidden=8, empirical_protein_background_prior=False).save(tmp_path / "checkpoint")
    with pytest.raises(SourceError, match="expected a trained model"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")


def test_a_checkpoint_without_cells_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", dataclasses.replace(read_checkpoint(checkpoint), sample=None))
    with pytest.raises(ExportError, match="expected two cells or more of the reference in the checkpoint, found 0"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        export_bundle(tmp_path / "nothing", tmp_path / "bundle")


@pytest.mark.parametrize("protein_mean", ["measured", "all"])
@torch.inference_mode()
def test_proteins_that_nobody_measured_are_left_out(checkpoint: Path, tmp_path: Path, protein_mean: str) -> None:
    """Nothing changes for the others, not even where the encoder's mean counts the absent ones as zeros."""
    record = read_checkpoint(checkpoint)
    assert record.sample is not None
    kept = np.arange(len(record.registry.proteins)) % 3 != 1

    def without(rows: tuple[tuple[bool, ...], ...]) -> tuple[tuple[bool, ...], ...]:
        return tuple(tuple(bool(value) for value in np.array(row) & kept) for row in rows)

    def hidden(cells):
        return dataclasses.replace(cells, protein=cells.protein * kept, measured=cells.measured & kept)

    registry = dataclasses.replace(
        record.registry,
        batch_proteins=without(record.registry.batch_proteins),
        panel_proteins=without(record.registry.panel_proteins),
    )
    sample = dataclasses.replace(
        record.sample, landmarks=hidden(record.sample.landmarks), held_out=hidden(record.sample.held_out)
    )
    model = record.model | {"protein_mean": protein_mean}
    changed = dataclasses.replace(record, registry=registry, sample=sample, model=model)
    write_checkpoint(tmp_path / "checkpoint", changed)

    source = read_source(tmp_path / "checkpoint")
    whole = TOTALANVI.load(tmp_path / "checkpoint").module.eval()
    assert source.registry.proteins == tuple(np.array(record.registry.proteins)[kept])
    assert all(all(row) for row in source.registry.batch_proteins)
    inputs = [
        EncoderInputs.of(cells.to_batch(), module.dims)
        for cells, module in ((source.sample.landmarks, source.module), (sample.landmarks, whole))
    ]
    (z, _), (expected, _) = source.module.encode(inputs[0]), whole.encode(inputs[1])
    torch.testing.assert_close(z.mean, expected.mean)
    torch.testing.assert_close(z.scale, expected.scale)
    covariates = inputs[0].covariates
    found, all_proteins = source.module.decode_proteins(z.mean, covariates), whole.decode_proteins(z.mean, covariates)
    efficiency = source.module.log_efficiency(covariates.batch), whole.log_efficiency(covariates.batch)
    # Products of other widths round otherwise, and these are exponentials of what they give.
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.denoised(), all_proteins.denoised()[:, kept], **close)
    torch.testing.assert_close(found.expected(efficiency[0]), all_proteins.expected(efficiency[1])[:, kept], **close)
