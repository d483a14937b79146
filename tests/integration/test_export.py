"""From a checkpoint to annotated cells, through the command line and the file system."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mudata as md
import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.altered_checkpoint import sign, without_readout
from tests.support.files import contents

import totalanvi.export
from totalanvi.export import ExportError, export_bundle
from totalanvi.serving import BundleError, load_reference
from totalanvi.serving.bundles.bundle import Bundle, bundle_files
from totalanvi.serving.bundles.graphs import device_graphs, label_graphs
from totalanvi.serving.bundles.manifest import CARD_FILE, MANIFEST_FILE, REPORT_FILE, SCHEMA_VERSION
from totalanvi.serving.bundles.signature import SIGNATURE_FILE
from totalanvi.serving.cli import main
from totalanvi.training.simulation.simulate import simulate, simulate_query


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def run(arguments: list[object], store: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, since BentoML settles on a store when it is imported."""
    environment = os.environ | {"BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_command_line(checkpoint: Path, copied: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Replaces an earlier bundle, signs it, puts it into the store, and says what it did in a few lines."""
    store = tmp_path_factory.mktemp("store")
    key = ed25519.Ed25519PrivateKey.generate()
    (store / "signer.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    before = Bundle.open(copied)
    source = with_ensembl_ids(checkpoint, store)
    options = ["--overwrite", "--name", "renamed", "--store", "--sign", store / "signer.pem"]
    program = "from totalanvi.serving.cli import main; main()"
    done = run(["-c", program, "export", source, "-o", copied, *options], store)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    # These lines and no other: the exporter of torch would have much to say.
    expected = (
        r"Writing encoder.onnx …",
        r"Writing classifier.onnx …",
        r"Writing proteins.onnx …",
        r"Writing encoder_rest.onnx …",
        r"Writing encoder_panel.onnx …",
        r"Writing encoder_rna.onnx …",
        r"Writing readout.onnx …",
        r"Writing readout_rest.onnx …",
        r"Writing readout_labels.onnx …",
        r"Writing readout_panel.onnx …",
        r"Writing readout_rna.onnx …",
        r"Writing rows.onnx …",
        r"Writing nearest.onnx …",
        r"Writing average.onnx …",
        r"Writing density.onnx …",
        r"Writing readout_counts.onnx …",
        r"Writing readout_imputed.onnx …",
        r"Comparing with torch …",
        r"Drawing the map …",
        r"Mapping the reference's own cells to calibrate …",
        r"Taking genes away from the reference's own cells …",
        r"Opening what was written …",
        r"Reference:   renamed [0-9a-f]{12}: 160 genes, 12 proteins, 4 labels",
        r"Parity:      relative error to torch at most \d\.\de-\d\d \(.*; 0.0001 allowed\)",
        r"Calibration: with proteins, temperature \d\.\d\d; \d+ held-out cells: accuracy 0\.\d+, .*",
        r"Calibration: with part of the panel, temperature .*",
        r"Calibration: from RNA alone, temperature .*, label sets hold \d\d\.\d%",
        r"Imputation:  from RNA alone, mean correlation 0\.\d+.*",
        r"Genes:       a query is warned of below \d+% .* refused below \d+%, where 1\d\d held-out cells .*",
        r"Size:        \d\.\d MB",
        r"Time:        .* s",
        r"Output:      .*bundle",
        r"Stored as:   renamed:[0-9a-f]{12}",
    )
    signature = base64.b64decode((copied / SIGNATURE_FILE).read_bytes())
    key.public_key().verify(signature, b"totalanvi bundle 1\n" + (copied / MANIFEST_FILE).read_bytes())
    said = [line for line in done.stderr.splitlines() if not re.fullmatch(r".*: \d+ s so far", line)]  # on busy cores
    for line, pattern in zip(said, expected, strict=True):
        assert re.fullmatch(pattern, line)

    after = Bundle.open(copied)
    assert after.manifest.name == "renamed"
    # The same model gives the same files, byte by byte, and so the same version; two pages tell the name.
    pages = {CARD_FILE, REPORT_FILE}
    assert after.manifest.files.keys() == before.manifest.files.keys()
    assert {name for name, record in after.manifest.files.items() if record != before.manifest.files[name]} == pages
    assert after.manifest.version == before.manifest.version
    assert {file.name for file in copied.iterdir()} == {
        *(MANIFEST_FILE, SIGNATURE_FILE, CARD_FILE, REPORT_FILE),
        *bundle_files(readout=True),
        *(graph.file for graph in (*label_graphs(readout=True), *device_graphs(readout=True))),
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]
    # What is no id, and ids that several genes share, name none of them.
    ids = after.manifest.genes.ensembl_ids
    assert ids is not None
    assert ids[:4] == ["ENSG00000000000", None, None, None]
    assert None not in ids[4:]


def with_ensembl_ids(checkpoint: Path, folder: Path) -> Path:
    copy = Path(shutil.copytree(checkpoint, folder / "checkpoint"))
    registry = json.loads((copy / "registry.json").read_text())
    ids = [f"ENSG{i:011d}" for i in range(len(registry["genes"]))]
    ids[1:4] = ["nan", "ENSG00000000099", "ENSG00000000099"]
    ids[99] = "ENSG00000001099.2"
    (copy / "registry.json").write_text(json.dumps(registry | {"ensembl_ids": ids}))
    return sign(copy)


def test_manifest_says_where_it_comes_from(bundle: Path, reference_mdata: md.MuData) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.name == "simulated"
    assert manifest.genes.names == list(reference_mdata["rna"].var_names)
    assert manifest.proteins == list(reference_mdata["prot"].var_names)
    assert manifest.batches == ["batch1", "batch2"]
    assert np.array(manifest.protein_batches).all()
    provenance = manifest.provenance
    assert (provenance.n_cells, provenance.n_labelled) == (400, 360)
    assert {"totalanvi", "torch", "onnx", "onnxruntime"} <= provenance.versions.keys()
    assert provenance.model["n_latent"] == manifest.n_latent == 8
    assert provenance.training["options"]["lr"] == 1e-2
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest.created)


def test_maps_a_query_with_and_without_proteins(bundle: Path) -> None:
    query = simulate_query(
        150, n_genes=160, n_proteins=12, n_labels=4, n_batches=2, seed=1, unseen=0, without_proteins=0.4
    )
    reference = load_reference(bundle)
    truth = query["rna"].obs["cell_type"].astype(str)
    both = reference.map(query, samples=5)
    rna_only = reference.map(query["rna"], proteins="none", samples=5)
    assert (both["rna"].obs["totalanvi_guess"].astype(str) == truth).mean() > 0.6
    assert (rna_only.obs["totalanvi_guess"].astype(str) == truth).mean() > 0.6
    imputed = rna_only.obsm["totalanvi_protein"]
    assert list(imputed.columns) == reference.info().proteins
    assert (imputed.to_numpy() >= 0).all()
    # Cells that had no proteins come out alike, whether others had some or not.
    without = ~query["rna"].obs_names.isin(query["prot"].obs_names)
    np.testing.assert_allclose(
        both["rna"].obsm["X_totalanvi"][without], rna_only.obsm["X_totalanvi"][without], atol=1e-5
    )
    # Imputed proteins follow what was measured.
    measured = query["prot"].to_df()
    shared = imputed.loc[measured.index, measured.columns]
    correlation = [np.corrcoef(np.log1p(shared[name]), np.log1p(measured[name]))[0, 1] for name in measured]
    assert np.mean(correlation) > 0.3


def test_fresh_cells_are_covered_as_often_as_asked(bundle: Path) -> None:
    """Cells drawn like the reference's, which the bundle has not seen; the fixture calibrates on 120 cells."""
    fresh = simulate(n_cells=1500, n_genes=160, n_proteins=12, n_labels=4, n_batches=2, seed=1)
    truth = fresh["rna"].obs["cell_type"].astype(str)
    counts = fresh["prot"].to_df()
    reference = load_reference(bundle)
    for proteins in (None, "none"):
        mapped = reference.map(fresh, proteins=proteins, samples=5, false_positive_rate=0.05)["rna"]
        holds = [label in of_cell.split("|") for label, of_cell in zip(truth, mapped.obs["totalanvi_set"], strict=True)]
        assert np.mean(holds) == pytest.approx(0.9, abs=0.07)
        assert (mapped.obs["totalanvi_label"] == "unknown").mean() == pytest.approx(0.05, abs=0.05)
    low, high = (mapped.obsm[f"totalanvi_protein_{end}"][list(counts)] for end in ("low", "high"))
    within = (low <= counts) & (counts <= high)
    assert within.to_numpy().mean() == pytest.approx(0.9, abs=0.03)
    assert within.mean().between(0.75, 1).all()
    # What the bundle says of itself is what fresh cells show.
    imputed = reference.map(fresh["rna"], proteins="none", background="include").obsm["totalanvi_protein"][list(counts)]
    pearson = np.log1p(imputed).corrwith(np.log1p(counts))
    said = pd.DataFrame(mapped.uns["totalanvi"]["protein_reliability"]).set_index("protein")["pearson"]
    assert np.abs(pearson - said[list(counts)]).mean() < 0.1


def test_parents_of_labels_and_a_label_that_is_called_as_novel_cells_are(checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    registry = json.loads((copy / "registry.json").read_text())
    first, second, third, _ = registry["labels"]
    registry["labels"] = [first, second, third, "unknown"]
    (copy / "registry.json").write_text(json.dumps(registry))
    without_readout(copy)
    (tmp_path / "parents.csv").write_text(f"label,parent\n{first},few\n{second},few\nfew,all\nunknown,all\n")
    said: list[str] = []
    manifest = Bundle.open(
        export_bundle(copy, tmp_path / "bundle", parents=tmp_path / "parents.csv", report=said.append)
    ).manifest
    assert "Renaming the label 'unknown', which is what novel cells are called" in said
    assert manifest.labels == [first, second, third, "unknown (reference)"]
    assert manifest.parents == {first: "few", second: "few", "few": "all", "unknown (reference)": "all"}
    (tmp_path / "parents.csv").write_text("label,parent\nstranger,few\n")
    with pytest.raises(ExportError, match="'stranger', which is neither"):
        export_bundle(copy, tmp_path / "other", parents=tmp_path / "parents.csv")
    assert not (tmp_path / "other").exists()


def test_an_output_that_exists(checkpoint: Path, copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents(copied)
    with pytest.raises(SystemExit) as done:
        main(["export", str(checkpoint), "-o", str(copied)])
    assert done.value.code == 2
    error = capfd.readouterr().err
    assert re.fullmatch(r"Error: .*: expected a folder that does not exist, found one; .* \(--overwrite\)\.\n", error)
    assert contents(copied) == before


def test_what_is_not_a_bundle_is_never_replaced(checkpoint: Path, copied: Path, tmp_path: Path) -> None:
    (copied / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match=r"holds a bundle alone, found 'thesis.tex' in it, which would be lost"):
        export_bundle(checkpoint, copied, overwrite=True)
    with pytest.raises(ExportError, match=r"found 'cells\.safetensors'"):
        export_bundle(checkpoint, checkpoint, overwrite=True)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ExportError, match="found a file"):
        export_bundle(checkpoint, file, overwrite=True)
    with pytest.raises(ExportError, match="expected a place where a folder can be made"):
        export_bundle(checkpoint, file / "bundle")
    assert (copied / "thesis.tex").exists()


@pytest.mark.parametrize(("name", "version"), [("My Reference", None), ("-x", None), ("x" * 64, None), ("x", "1/2")])
def test_names_that_no_store_takes(checkpoint: Path, tmp_path: Path, name: str, version: str | None) -> None:
    with pytest.raises(ExportError, match=r"at most 63 (small )?letters, digits"):
        export_bundle(checkpoint, tmp_path / "bundle", name=name, version=version)


def test_a_model_that_fails_parity_leaves_what_was_there(checkpoint: Path, copied: Path, tmp_path: Path) -> None:
    """Weights that training drove to infinity."""
    from safetensors.numpy import load_file, save_file

    broken = Path(shutil.copytree(checkpoint, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["protein_decoder.background_mean.bias"] = weights["protein_decoder.background_mean.bias"] + np.float32(1e4)
    save_file(weights, broken / "model.safetensors")
    without_readout(broken)
    before = contents(tmp_path)
    with pytest.raises(ExportError, match=r"proteins 'denoised': inf; proteins 'expected': inf\. Nothing was exported"):
        export_bundle(broken, copied, overwrite=True)
    assert contents(tmp_path) == before


def test_an_altered_byte_is_refused(copied: Path) -> None:
    content = bytearray((copied / "encoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "encoder.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"'encoder.onnx' has been altered"):
        Bundle.open(copied)


def test_a_newer_schema_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / MANIFEST_FILE).read_text())
    (copied / MANIFEST_FILE).write_text(json.dumps(manifest | {"schema_version": SCHEMA_VERSION + 1}))
    said = rf"found schema {SCHEMA_VERSION + 1} \(written by totalanvi .*\), .* upgrade totalanvi"
    with pytest.raises(BundleError, match=said):
        Bundle.open(copied)


def test_model_store(bundle: Path, tmp_path: Path) -> None:
    code = f"""
import resource
from totalanvi.export import ExportError
from totalanvi.export.store import store_bundle
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.reference import find_bundle
bundle = Bundle.open({str(bundle)!r})
tag = store_bundle(bundle)
print(tag)
try:
    store_bundle(bundle)
except ExportError as error:
    print(error)
print(store_bundle(bundle, overwrite=True) == tag)
print(Bundle.open(find_bundle("simulated")).digest == bundle.digest)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    store_bundle(bundle, overwrite=True)
except ExportError as error:
    print(error)
print(Bundle.open(find_bundle("simulated")).digest == bundle.digest)
"""
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    tag, refused, replaced, found, no_room, still_found = done.stdout.splitlines()
    assert tag == f"simulated:{Bundle.open(bundle).manifest.version}"
    assert refused.startswith(f"{tag}: expected a tag that the model store does not have")
    assert (replaced, found, still_found) == ("True", "True", "True")
    assert no_room.startswith(f"{tag}: expected to copy the bundle into the model store, found that this fails")


def test_public_names_are_exact() -> None:
    assert totalanvi.export.__all__ == ["ExportError", "export_bundle"]
    assert dir(totalanvi.export) == totalanvi.export.__all__
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        totalanvi.export.surprise  # type: ignore[attr-defined]  # noqa: B018
