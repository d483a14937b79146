"""Opening a bundle: everything there and unaltered, or one clear refusal that names what is not."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file
from tests.support.toy_bundle import TOY, sign

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import ENCODER_REST
from totalanvi.serving.bundles.manifest import (
    CALIBRATION_FILE,
    ENCODER_FIRST_FILE,
    MANIFEST_FILE,
    REFERENCE_FILE,
    SCHEMA_VERSION,
    Manifest,
)
from totalanvi.serving.bundles.manifest_file import write_manifest
from totalanvi.serving.bundles.mistaken import what_is_at
from totalanvi.serving.errors import BundleError


@pytest.fixture
def folder(toy_folder: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(toy_folder, tmp_path / "toy"))


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / MANIFEST_FILE).read_text())
    edit(values)
    (folder / MANIFEST_FILE).write_text(json.dumps(values))


def replace_arrays(folder: Path, file: str, **arrays: np.ndarray[Any, Any]) -> None:
    """Write other arrays, and sign for them."""
    save_file({**load_file(folder / file), **arrays}, folder / file)
    sign(folder)


def test_opens_what_was_written(toy_folder: Path) -> None:
    bundle = Bundle.open(toy_folder)
    assert bundle.manifest.labels == TOY.labels
    assert bundle.manifest.genes.names == TOY.genes
    assert bundle.reference.gene_share.shape == (len(TOY.genes),)
    assert bundle.digest == hashlib.sha256((toy_folder / MANIFEST_FILE).read_bytes()).hexdigest()
    assert Bundle.open(str(toy_folder)).digest == bundle.digest


def test_who_may_read_one_file_may_read_all(toy_folder: Path) -> None:
    assert len({file.stat().st_mode for file in toy_folder.iterdir()}) == 1


def test_features_digest_follows_names_and_order(folder: Path) -> None:
    before = Bundle.open(folder).manifest.features_digest
    edit_manifest(folder, lambda values: values.update(name="other"))
    sign(folder)
    assert Bundle.open(folder).manifest.features_digest == before
    edit_manifest(folder, lambda values: values["genes"]["names"].reverse())
    sign(folder)
    assert Bundle.open(folder).manifest.features_digest != before


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected the folder of a bundle, found nothing"):
        Bundle.open(tmp_path / "nowhere")


def test_file_instead_of_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="found a file"):
        Bundle.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "bundle"),
        ("manifest.json", "file of a bundle"),
        ("none", "nothing"),
        ("../cells.h5ad", "file of cells"),
        ("../notes.txt", "file"),
        ("../matrix", "folder of cells"),
        ("../checkpoint", "checkpoint"),
        ("../saved", "scvi"),
        ("..", "folder"),
    ],
)
def test_what_is_named_is_known(folder: Path, name: str, kind: str) -> None:
    beside = {
        "cells.h5ad": "",
        "notes.txt": "",
        "matrix/matrix.mtx": "",
        "checkpoint/config.json": '{"format": "totalanvi checkpoint"}',
        "saved/model.pt": "",
    }
    for file, text in beside.items():
        (folder.parent / file).parent.mkdir(exist_ok=True)
        (folder.parent / file).write_text(text)
    assert what_is_at(folder / name) == kind


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found a folder without manifest\.json"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["encoder.onnx", "classifier.onnx", "proteins.onnx", REFERENCE_FILE])
def test_changed_byte_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"'{name}' has been altered: expected SHA-256"):
        Bundle.open(folder)


def test_truncated_file_is_named(folder: Path) -> None:
    content = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"'encoder\.onnx' has been altered: expected {len(content)} bytes"):
        Bundle.open(folder)


def test_missing_file_is_named(folder: Path) -> None:
    (folder / "classifier.onnx").unlink()
    with pytest.raises(BundleError, match=r"expected the file 'classifier\.onnx', found it missing"):
        Bundle.open(folder)


def test_manifest_that_does_not_list_a_needed_file(folder: Path) -> None:
    edit_manifest(folder, lambda values: values["files"].pop("proteins.onnx"))
    with pytest.raises(BundleError, match=r"to list \['proteins\.onnx'\]"):
        Bundle.open(folder)


@pytest.mark.parametrize("names", [[ENCODER_FIRST_FILE, ENCODER_REST.file], [ENCODER_FIRST_FILE], [ENCODER_REST.file]])
def test_a_bundle_without_first_layers_is_refused(folder: Path, names: list[str]) -> None:
    edit_manifest(folder, lambda values: [values["files"].pop(name) for name in names])
    said = f"to list {names}, found it does not; export again"
    with pytest.raises(BundleError, match=re.escape(said)):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values["labels"].reverse(),
        lambda values: values["calibration"]["rna"].update(temperature=1.75),
        lambda values: values.pop("digest"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Labels in another order would name every cell wrongly, and every other check would pass."""
    edit_manifest(folder, edit)
    with pytest.raises(BundleError, match=r"'manifest.json' has been altered: expected .*, found .*; copy the bundle"):
        Bundle.open(folder)


def test_the_layout_of_a_manifest_does_not_matter(folder: Path) -> None:
    edit_manifest(folder, lambda values: None)
    assert Bundle.open(folder).manifest.labels == TOY.labels


def test_newer_schema_names_both_versions(folder: Path) -> None:
    def newer(values: dict[str, Any]) -> None:
        values.update(schema_version=SCHEMA_VERSION + 1, something_new=True)
        values["provenance"]["versions"]["totalanvi"] = "9.1"

    edit_manifest(folder, newer)
    said = rf"found schema {SCHEMA_VERSION + 1} \(written by totalanvi 9\.1\).*reads.*up to {SCHEMA_VERSION}; upgrade"
    with pytest.raises(BundleError, match=said):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x01", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[]", "with a schema_version, found none"),
        (b'{"schema_version": "1"}', "with a schema_version, found none"),
        (b'{"schema_version": 0}', f"expected schema {SCHEMA_VERSION}, found 0"),
        (b'{"schema_version": %d}' % SCHEMA_VERSION, f"follow schema {SCHEMA_VERSION} at 'name': Field required"),
    ],
)
def test_manifest_that_is_none(folder: Path, content: bytes, message: str) -> None:
    (folder / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v["labels"].append(v["labels"][0]), "labels: expected unique names, found .'B cell'"),
        (lambda v: v["genes"]["names"].append("EXTRA"), r"ensembl_ids: expected one entry for each of the 61 genes"),
        (
            lambda v: v["protein_batches"].pop(),
            "protein_batches: expected one entry for each of the 2 batches, found 1",
        ),
        (lambda v: v["protein_batches"][1].__setitem__(-1, False), "a batch that measured 'IgG1', found none"),
        (lambda v: v["proteins"].clear(), "at 'proteins'"),
        (lambda v: v["calibration"].pop("rna"), "calibration: expected an entry for mode 'rna'"),
        (lambda v: v["calibration"]["rna"].update(temperature=0), "at 'calibration.rna.temperature'"),
        (lambda v: v["confidence"].pop("part"), "confidence: expected an entry for mode 'part'"),
        (
            lambda v: v["protein_reliability"].pop(),
            "protein_reliability: expected one entry for each",
        ),
        (lambda v: v["labels"].__setitem__(3, "unknown"), "labels: expected none called 'unknown'"),
        (lambda v: v["parents"].update({"NK": "unknown"}), "parents: expected none called 'unknown'"),
        (lambda v: v["parents"].update({"T cell": "CD4 T"}), "parents: expected parents that end somewhere"),
        (lambda v: v["parents"].update({"Monocyte": "x"}), "parents: .* found 'Monocyte', which is neither"),
        (lambda v: v.update(surprise=1), "at 'surprise'"),
    ],
)
def test_manifest_that_contradicts_itself(folder: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    edit_manifest(folder, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", "", "a\x00b", MANIFEST_FILE])
def test_file_names_are_plain(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    edit_manifest(folder, lambda values: values["files"].update({name: {"sha256": "0" * 64, "bytes": 6}}))
    with pytest.raises(BundleError, match="expected plain file names"):
        Bundle.open(folder)


def test_link_out_of_the_folder_is_refused(folder: Path) -> None:
    outside = folder.parent / "encoder.onnx"
    (folder / "encoder.onnx").rename(outside)
    (folder / "encoder.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="a link out"):
        Bundle.open(folder)


def test_folder_itself_may_be_reached_by_a_link(toy_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(toy_folder)
    assert Bundle.open(tmp_path / "latest").manifest.name == "toy"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"latent": np.zeros((150, 4), np.float32)}, r"latent: expected float32 of shape \(150, 5\)"),
        ({"latent": np.zeros((0, 5), np.float32)}, "label: expected int32 of shape"),
        ({"label": np.full(150, 4, np.int32)}, "label: expected indices from -1 to 3"),
        ({"label": np.zeros(150, np.int64)}, "label: expected int32"),
        ({"coordinates": np.full((150, 2), np.nan, np.float32)}, "coordinates: expected finite values"),
        ({"gene_share": np.full(60, 1.0, np.float32)}, "gene_share: expected shares .* found a sum of 60"),
        ({"unknown": np.zeros(1, np.float32)}, "expected reference.safetensors to hold"),
    ],
)
def test_arrays_that_do_not_fit_the_manifest(folder: Path, arrays: dict[str, Any], message: str) -> None:
    replace_arrays(folder, REFERENCE_FILE, **arrays)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"novelty_rna": np.zeros(0, np.float32)}, "novelty_rna: expected ascending"),
        ({"novelty_part": np.array([2, 1], np.float32)}, "novelty_part: expected ascending"),
        ({"conformal_rna": np.array([2, 1], np.float32)}, "conformal_rna: expected ascending"),
        ({"conformal_part": np.array([np.nan], np.float32)}, "conformal_part: expected finite"),
        ({"interval_knots": np.zeros((2, 5, 2), np.float32)}, r"interval_knots: expected float32 of shape \(2, 6, 2\)"),
        ({"interval_knots": np.tile(np.float32([2, 1]), (2, 6, 1))}, "interval_knots: expected ascending"),
        ({"interval_low": np.full((2, 6, 2, 14), np.nan, np.float32)}, "interval_low, interval_high: expected bounds"),
        ({"interval_high": np.zeros((2, 6, 2, 14), np.float32)}, "interval_low, interval_high: expected bounds"),
        ({"interval_low": np.zeros((2, 6, 2, 3), np.float32)}, "interval_low: expected float32 of shape"),
        ({"unknown": np.zeros(1, np.float32)}, "expected calibration.safetensors to hold"),
    ],
)
def test_calibration_that_does_not_fit_the_manifest(folder: Path, arrays: dict[str, Any], message: str) -> None:
    replace_arrays(folder, CALIBRATION_FILE, **arrays)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


def test_arrays_that_are_no_safetensors(folder: Path) -> None:
    (folder / REFERENCE_FILE).write_bytes(b"not safetensors")
    sign(folder)
    with pytest.raises(BundleError, match="expected safetensors"):
        Bundle.open(folder)


def test_read_verifies_once_more(folder: Path) -> None:
    bundle = Bundle.open(folder)
    content = bundle.read("encoder.onnx")
    (folder / "encoder.onnx").write_bytes(content + b"\x00")
    with pytest.raises(BundleError, match="has been altered"):
        bundle.read("encoder.onnx")
    with pytest.raises(BundleError, match=r"asked for 'manifest\.json'"):
        bundle.read("manifest.json")


def test_writer_refuses_a_file_that_is_not_as_recorded(folder: Path) -> None:
    manifest = Bundle.open(folder).manifest
    before = (folder / MANIFEST_FILE).read_bytes()
    (folder / "encoder.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        write_manifest(folder, manifest)
    assert (folder / MANIFEST_FILE).read_bytes() == before


def test_writing_again_changes_nothing(folder: Path) -> None:
    bundle = Bundle.open(folder)
    write_manifest(folder, bundle.manifest)
    assert Bundle.open(folder).digest == bundle.digest
    assert not list(folder.glob(".*"))


def test_arrays_are_checked_before_they_are_written(toy_folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_folder)
    other = bundle.manifest.model_copy(update={"n_latent": 7})
    with pytest.raises(BundleError, match="latent: expected float32 of shape"):
        bundle.reference.save(tmp_path / REFERENCE_FILE, other)
    assert not list(tmp_path.iterdir())


def test_manifest_refuses_numbers_that_json_cannot_hold(toy_folder: Path) -> None:
    values = Bundle.open(toy_folder).manifest.model_dump()
    values["calibration"]["rna"]["log_loss"] = float("nan")
    with pytest.raises(ValidationError, match="finite number"):
        Manifest.model_validate(values)
