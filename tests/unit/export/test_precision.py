"""Bundles in less than float32: what they serve, and whether what they say of their cost is true."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import get_args

import mudata as md
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from safetensors.numpy import load
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from tests.support.pages import parse_page
from tests.support.threads import one_thread
from tests.support.toy_bundle import sign

from totalanvi.export import ExportError, export_bundle
from totalanvi.export.cli import _summary_lines
from totalanvi.export.errors import PrecisionError
from totalanvi.export.precision.half import Half, rounded
from totalanvi.export.query_modes import in_mode
from totalanvi.export.reference_cells import aligned
from totalanvi.export.source import read_source
from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.graphs import ENCODER, ENCODER_REST, PROTEINS, READOUT_LABELS
from totalanvi.serving.bundles.manifest import CARD_FILE, MANIFEST_FILE, REPORT_FILE
from totalanvi.serving.bundles.modes import MODES
from totalanvi.serving.bundles.precision import LOWERED, Change, precision_lines
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.cli import main
from totalanvi.serving.engine.engine import Engine
from totalanvi.serving.engine.neighbours import N_NEIGHBOURS
from totalanvi.serving.mapped import MapOptions
from totalanvi.training.checkpoints.reference_sample import ReferenceSample

LABELS_ALONE = MapOptions(impute=False)
PAGES = {CARD_FILE, REPORT_FILE}


@pytest.fixture(scope="module", params=LOWERED)
def exported(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, list[str]]:
    """The bundle of `checkpoint` in each precision, not to be changed, and what the command said of it."""
    folder = tmp_path_factory.mktemp("precision") / request.param
    arguments = ["export", checkpoint, "-o", folder, "--name", "simulated", "--precision", request.param]
    with one_thread(), redirect_stderr(StringIO()) as said, pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 0, said.getvalue()
    return Bundle.open(folder), said.getvalue().splitlines()


@pytest.fixture(scope="module")
def lowered(exported: tuple[Bundle, list[str]]) -> Bundle:
    return exported[0]


@pytest.fixture(scope="module")
def full(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def sample(checkpoint: Path) -> ReferenceSample:
    return read_source(checkpoint).sample


def precision_of(bundle: Bundle) -> str:
    assert bundle.manifest.precision is not None
    return bundle.manifest.precision.precision


def graph(bundle: Bundle, name: str) -> onnx.ModelProto:
    return onnx.load_model(bundle.path / name)


def matrices(bundle: Bundle, name: str) -> list[tuple[str, int, int]]:
    """Type of each of a graph's matrices, its smaller and its larger side."""
    tensors = [tensor for tensor in graph(bundle, name).graph.initializer if len(tensor.dims) > 1]
    return sorted((TensorProto.DataType.Name(tensor.data_type), *sorted(tensor.dims)) for tensor in tensors)


# What is stored and multiplied


def test_weights_are_stored_in_what_was_asked_for(lowered: Bundle, full: Bundle) -> None:
    before, after = (matrices(each, ENCODER_REST.file) for each in (full, lowered))
    assert {kind for kind, *_ in before} == {"FLOAT"}

    def kind(smaller: int) -> str:
        if precision_of(lowered) == "int8" and smaller < 64:
            return "FLOAT"
        return precision_of(lowered).upper()

    assert after == sorted((kind(smaller), smaller, larger) for _, smaller, larger in before)
    assert {found for found, *_ in after} > {"FLOAT"} or precision_of(lowered) != "int8"


def test_what_a_device_computes_is_multiplied_in_float16(lowered: Bundle) -> None:
    for name, casts in ((ENCODER.file, precision_of(lowered) == "float16"), (ENCODER_REST.file, False)):
        to = [each.attribute[0].i for each in graph(lowered, name).graph.node if each.op_type == "Cast"]
        assert (TensorProto.FLOAT16 in to) == casts


def test_first_layers_are_rounded_as_complete_graphs_are(lowered: Bundle, full: Bundle) -> None:
    precision: Half = "float16" if precision_of(lowered) == "float16" else "bfloat16"
    for before, after in zip(full.first_layers, lowered.first_layers, strict=True):
        np.testing.assert_array_equal(after.weight, rounded(before.weight, precision))
        np.testing.assert_array_equal(after.offset, before.offset)
    stored = {tensor.name: tensor for tensor in graph(lowered, ENCODER.file).graph.initializer}
    kind = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[precision]
    assert stored["encoder.rna_in.weight.stored"].data_type == kind


def test_int8_sums_fit_every_processor(lowered: Bundle) -> None:
    """Two products of a byte and a weight, added up in 16 bits where there is no VNNI, must not saturate."""
    if precision_of(lowered) != "int8":
        pytest.skip("no whole numbers")
    weights = [
        numpy_helper.to_array(tensor).astype(int)
        for name in (ENCODER_REST.file, PROTEINS.file, READOUT_LABELS.file)
        for tensor in graph(lowered, name).graph.initializer
        if tensor.data_type == TensorProto.INT8
    ]
    assert max(np.abs(each).max() for each in weights) == 64
    assert 2 * 255 * 64 < 2**15


@pytest.mark.parametrize("precision", get_args(Half))
def test_rounding_is_to_the_nearest(precision: Half) -> None:
    weight = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)
    bits = {"float16": 10, "bfloat16": 7}[precision]
    found = rounded(weight, precision)
    assert found.dtype == np.float32
    assert 0 < np.abs(found / weight - 1).max() <= 2.0 ** -(bits + 1)
    np.testing.assert_array_equal(rounded(found, precision), found)


def test_files_of_first_layers_hold_sixteen_bits(lowered: Bundle) -> None:
    for layer in lowered.first_layers:
        content = load((lowered.path / layer.FILE).read_bytes())["weight"]
        assert content.dtype == (np.float16 if precision_of(lowered) == "float16" else np.uint16)
        assert layer.weight.dtype == np.float32


# What is served


def test_complete_graphs_say_what_first_layers_and_the_rest_do(lowered: Bundle, sample: ReferenceSample) -> None:
    cells = aligned(sample.held_out)
    present = np.arange(cells.n_genes) % 4 != 0
    rna = sparse.csr_matrix(cells.rna.multiply(present), dtype=np.float32)
    options = MapOptions(samples=2)
    # Complete graphs round in float16 what they multiply.
    tolerance = {"float16": 2e-3, "bfloat16": 1e-4, "int8": 1e-4}[precision_of(lowered)]
    for query in (cells, replace(cells, rna=rna, present=present)):
        found = Engine(lowered, provider="cpu").run(query, options)
        complete = Engine(lowered, provider="cpu", complete_graphs=True).run(query, options)
        for name in ("latent", "probabilities", "novelty"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(complete, name), rtol=tolerance, atol=tolerance, err_msg=name
            )
        np.testing.assert_allclose(np.log1p(found.protein), np.log1p(complete.protein), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("with_proteins", [True, False])
def test_a_cell_does_not_depend_on_its_neighbours(
    lowered: Bundle, sample: ReferenceSample, with_proteins: bool
) -> None:
    """Alone, in blocks of other sizes, and among cells of another panel, for which there are other graphs."""
    cells = aligned(sample.held_out, with_proteins=with_proteins)
    engine = Engine(lowered, provider="cpu", threads=1)
    whole = engine.run(cells, LABELS_ALONE)
    assert cells.has_one_panel
    measured = sample.held_out.measured.copy()
    measured[:, 0] = False
    others = aligned(replace(sample.held_out, measured=measured))
    mixed = engine.run(joined(cells, others), LABELS_ALONE)
    imputed = engine.run(cells, MapOptions(samples=2))
    for size in (1, 7, 50):
        alone = engine.run(cells.rows(slice(3, 3 + size)), LABELS_ALONE)
        for name in ("latent", "probabilities", "novelty"):
            for found in (whole, mixed, imputed):
                expected = getattr(found, name)[3 : 3 + size]
                np.testing.assert_allclose(getattr(alone, name), expected, rtol=1e-5, atol=1e-5, err_msg=name)


def joined(one: AlignedCells, other: AlignedCells) -> AlignedCells:
    return AlignedCells(
        sparse.vstack([one.rna, other.rna], format="csr"),
        *(np.concatenate([getattr(one, n), getattr(other, n)]) for n in ("library", "protein", "measured")),
    )


def test_a_lowered_bundle_has_all_files(lowered: Bundle, full: Bundle) -> None:
    assert lowered.manifest.files.keys() == full.manifest.files.keys()
    assert {file.name for file in lowered.path.iterdir()} == {*lowered.manifest.files, MANIFEST_FILE}


def test_what_is_calibrated_is_calibrated_as_served(lowered: Bundle, sample: ReferenceSample) -> None:
    mapped = Engine(lowered, provider="cpu").run(aligned(sample.landmarks), LABELS_ALONE)
    np.testing.assert_allclose(mapped.latent, lowered.reference.latent, atol=1e-5)
    for mode in MODES:
        rows, query = in_mode(sample.held_out, mode, lowered.manifest.protein_batches)
        known = sample.held_out.label[rows] >= 0
        said, accuracy = log_loss_and_accuracy(lowered, query, sample.held_out.label[rows], known)
        assert lowered.manifest.calibration[mode].log_loss == pytest.approx(said, abs=1e-4)
        assert lowered.manifest.calibration[mode].accuracy == pytest.approx(accuracy)


# What it costs


def log_loss_and_accuracy(
    bundle: Bundle, query: AlignedCells, label: npt.NDArray[np.integer], known: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    probabilities = Engine(bundle, provider="cpu").run(query, LABELS_ALONE).probabilities[known]
    own = np.asarray(label)[known]
    return (
        -float(np.log(probabilities[np.arange(len(own)), own].astype(np.float64)).mean()),
        float((probabilities.argmax(axis=1) == own).mean()),
    )


def test_the_cost_is_what_both_bundles_say_of_held_out_cells(
    lowered: Bundle, full: Bundle, sample: ReferenceSample
) -> None:
    cost = lowered.manifest.precision
    assert cost is not None
    assert cost.held_out
    cells, bundles = sample.held_out, (full, lowered)
    landmarks = full.reference.latent.astype(np.float64)
    nearest = NearestNeighbors(n_neighbors=N_NEIGHBOURS + 1).fit(landmarks).kneighbors(landmarks)[0][:, 1:]
    near = np.median(nearest.mean(axis=1))
    assert list(cost.modes) == list(MODES)
    for mode, found in cost.modes.items():
        rows, query = in_mode(cells, mode, full.manifest.protein_batches)
        before, after = (Engine(each, provider="cpu").run(query, LABELS_ALONE) for each in bundles)
        assert found.n_cells == len(query)
        assert found.changed == np.mean(before.guess != after.guess)
        moved = np.linalg.norm(after.latent.astype(float) - before.latent, axis=1) / near
        assert found.latent_mean == pytest.approx(moved.mean(), rel=1e-3)
        assert found.latent_largest == pytest.approx(moved.max(), rel=1e-3)
        assert 0 < found.latent_mean < found.latent_largest < 0.2
        label = cells.label[rows]
        figures = [log_loss_and_accuracy(each, query, label, label >= 0) for each in bundles]
        assert found.log_loss is not None
        assert (found.log_loss.before, found.log_loss.after) == pytest.approx([loss for loss, _ in figures], abs=1e-4)
        assert found.accuracy == Change(before=figures[0][1], after=figures[1][1])


def test_so_it_is_of_imputed_proteins_and_sizes(lowered: Bundle, full: Bundle, sample: ReferenceSample) -> None:
    cost, bundles = lowered.manifest.precision, (full, lowered)
    assert cost is not None
    assert cost.correlation is not None
    cells = sample.held_out
    query, counts = aligned(cells, with_proteins=False), MapOptions(background="include")
    before, after = (Engine(each, provider="cpu").run(query, counts).protein for each in bundles)
    assert cost.count_change == pytest.approx(np.median(np.abs(after / before - 1)), rel=1e-2)
    assert 0 < cost.count_change < 0.02
    for said, imputed in ((cost.correlation.before, before), (cost.correlation.after, after)):
        each = [
            np.corrcoef(np.log1p(one[there]), np.log1p(other[there]))[0, 1]
            for one, other, there in zip(cells.protein.T, imputed.T, cells.measured.T, strict=True)
        ]
        assert said == pytest.approx(np.mean(each), abs=1e-4)
    sizes = [sum(record.bytes for name, record in each.manifest.files.items() if name not in PAGES) for each in bundles]
    assert [cost.bytes_before, cost.bytes_after] == sizes
    assert cost.bytes_after < cost.bytes_before


def test_it_is_told_wherever_a_bundle_is_described(
    exported: tuple[Bundle, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    lowered, summary = exported
    cost, precision = lowered.manifest.precision, precision_of(lowered)
    assert cost is not None
    rna = cost.modes["rna"]
    assert rna.accuracy is not None
    n_changed = round(rna.changed * rna.n_cells)
    told = (
        f"from RNA alone: {n_changed} of {rna.n_cells} held-out cells {'gets' if n_changed == 1 else 'get'} another "
        f"label; accuracy {rna.accuracy.after:.3f} ({rna.accuracy.before:.3f} in float32)"
    )
    lines = [line.removeprefix("Precision:   ") for line in summary if line.startswith("Precision:   ")]
    assert lines == precision_lines(cost)
    assert lines[0].startswith(f"Beside float32, {precision} changes ")
    assert lines[0].endswith(f", and takes {cost.bytes_after / 1e6:.1f} MB instead of {cost.bytes_before / 1e6:.1f}.")
    assert lines[3].startswith(told)
    assert any(line.startswith("Parity:") and line.endswith(", in float32") for line in summary)
    with pytest.raises(SystemExit):
        main(["info", str(lowered.path)])
    assert f"Precision:  {told}" in capsys.readouterr().out
    page = parse_page((lowered.path / REPORT_FILE).read_text(encoding="utf-8")).section("Precision")
    assert f"This bundle is in {precision}. {lines[0]}" in " ".join(page.text.split())
    assert [row[0] for row in page.rows()[1:]] == ["with proteins", "with part of the panel", "from RNA alone"]
    card = (lowered.path / CARD_FILE).read_text(encoding="utf-8")
    assert f"| from RNA alone | {rna.n_cells} | {rna.changed:.2%} | {rna.accuracy.after:.3f} |" in card


def test_results_say_what_they_were_computed_in(
    lowered: Bundle, bundle: Path, reference_mdata: md.MuData, tmp_path: Path
) -> None:
    reference_mdata[:20].copy().write(tmp_path / "query.h5mu")
    for folder, expected in ((lowered.path, [precision_of(lowered)]), (bundle, [])):
        files = [str(tmp_path / f"{folder.name}.{ending}") for ending in ("h5mu", "html")]
        with pytest.raises(SystemExit) as ended:
            main(["map", str(folder), str(tmp_path / "query.h5mu"), "-o", files[0], "--report", files[1]])
        assert ended.value.code == 0
        reference = md.read_h5mu(files[0]).uns["totalanvi"]["reference"]
        assert [reference[name] for name in ("precision",) if name in reference] == expected
        said = parse_page(Path(files[1]).read_text(encoding="utf-8")).section("What was mapped").text
        assert [
            name for name in LOWERED if f"Its precision{name}" in said.replace("\n", "").replace(" ", " ")
        ] == expected


def test_float32_says_nothing_of_it(full: Bundle) -> None:
    assert full.manifest.precision is None
    assert not [line for line in _summary_lines(full, 1) if "Precision" in line or line.endswith("in float32")]
    for page in PAGES:
        assert "float32" not in (full.path / page).read_text(encoding="utf-8")


def test_a_manifest_in_float32_reads_as_one_from_before(bundle: Path, tmp_path: Path) -> None:
    """Code from before there was a choice refuses fields that it does not know; a while, "precision" was null."""
    manifest = json.loads((bundle / MANIFEST_FILE).read_text())
    assert "precision" not in manifest
    with_null = Path(shutil.copytree(bundle, tmp_path / "with_null"))
    (with_null / MANIFEST_FILE).write_text(json.dumps(manifest | {"precision": None}))
    for folder in (bundle, sign(with_null)):
        assert Bundle.open(folder).manifest.precision is None


def test_an_unknown_precision_is_one_clear_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match=r"^precision: expected one of float32, float16, bfloat16, int8, found 'fp8'"):
        export_bundle(checkpoint, tmp_path / "bundle", precision="fp8")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(checkpoint), "-o", str(tmp_path / "bundle"), "--precision", "fp8"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert (
        said == "Error: precision: expected one of float32, float16, bfloat16, int8, found 'fp8'; choose one of them.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_weight_beyond_float16_is_told() -> None:
    with pytest.raises(PrecisionError, match=r"up to 65504, found one of 100000; choose bfloat16"):
        rounded(np.float32([1, -1e5]), "float16")
    assert rounded(np.float32([1, -1e5]), "bfloat16")[1] == pytest.approx(-1e5, rel=2**-8)


def test_a_cost_without_a_query_mode_is_refused(exported: tuple[Bundle, list[str]]) -> None:
    cost = exported[0].manifest.precision
    assert cost is not None
    values = cost.model_dump(mode="json")
    del values["modes"]["part"]
    with pytest.raises(ValueError, match="found none for"):
        type(cost).model_validate(values)
