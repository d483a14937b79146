"""One call for a bundle in this process: by path, by model-store tag, and what is said when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support.toy_bundle import TOY, toy_query

import totalanvi.serving
from totalanvi.serving import BundleError, QueryError, errors, load_reference
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.reference import find_bundle, is_url


@pytest.fixture(scope="module")
def reference(toy_folder: Path) -> LocalReference:
    reference = load_reference(toy_folder)
    assert isinstance(reference, LocalReference)
    return reference


def test_maps_an_anndata(reference: LocalReference) -> None:
    query = toy_query(120)
    annotated = reference.map(query, proteins="protein_expression", impute=True, samples=5)
    assert (annotated.obs["totalanvi_label"] == query.obs["truth"]).mean() > 0.98
    assert list(annotated.obsm["totalanvi_protein"].columns) == TOY.proteins
    assert list(annotated.obsm["totalanvi_probabilities"].columns) == TOY.labels
    assert "totalanvi_label" not in query.obs


def test_maps_without_proteins(reference: LocalReference) -> None:
    query = toy_query(50)
    with_proteins = reference.map(query, samples=1)
    without = reference.map(query, proteins="none", samples=1, impute=False)
    assert "totalanvi_protein" not in without.obsm
    assert not np.allclose(without.obsm["X_totalanvi"], with_proteins.obsm["X_totalanvi"])


def test_results_do_not_depend_on_the_chunk(reference: LocalReference) -> None:
    query = toy_query(70)
    whole, parts = (reference.map(query, batch_size=size, samples=2) for size in (4096, 9))
    for key in ("X_totalanvi", "X_totalanvi_map", "totalanvi_probabilities", "totalanvi_protein"):
        np.testing.assert_allclose(np.asarray(parts.obsm[key]), np.asarray(whole.obsm[key]), rtol=1e-6, atol=1e-6)


def test_options_are_checked_before_anything_is_read(reference: LocalReference) -> None:
    with pytest.raises(QueryError, match="background: expected"):
        reference.map("nowhere.h5ad", background="some")  # type: ignore[arg-type]


def test_info(reference: LocalReference) -> None:
    info = reference.info()
    assert (info.name, info.version, info.n_genes) == ("toy", "1", len(TOY.genes))
    assert info.digest == reference.bundle.digest
    assert info.provider in ("cpu", "cuda")
    assert type(info).model_validate_json(info.model_dump_json()) == info


def test_features(reference: LocalReference) -> None:
    assert list(reference.features.genes) == TOY.genes
    assert sum(reference.features.gene_share) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["./nowhere/bundle", "ftp://host/bundle", "Some Name", "", "toy:", "\x00"])
def test_name_that_is_neither_folder_nor_tag_nor_url(name: str) -> None:
    with pytest.raises(BundleError, match="expected the folder of a bundle, a model-store tag or the URL"):
        load_reference(name)


@pytest.mark.parametrize(
    "name", ["localhost:3411", "127.0.0.1:3411", "[::1]:3411", "lab.org:80/totalanvi", "Lab.org:80?reference=pbmc"]
)
def test_an_address_without_http_is_told_how_to_be_one(name: str) -> None:
    with pytest.raises(BundleError) as caught:
        load_reference(name)
    assert str(caught.value) == (
        f"{name}: expected the folder of a bundle, a model-store tag or the URL of an endpoint, found an address "
        f"without http://; for an endpoint give its URL, http://{name}."
    )


def test_urls() -> None:
    assert is_url("http://localhost:3000")
    assert is_url("HTTPS://host/prefix")
    assert not is_url("bundle/")
    assert not is_url(Path("http://host"))


def test_home_is_expanded(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(toy_folder.parent))
    assert find_bundle("~/toy") == toy_folder


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_model_store(toy_folder: Path, tmp_path: Path) -> None:
    """In a process of its own, since BentoML settles on a store when it is imported."""
    code = f"""
import shutil
import bentoml
from totalanvi.serving import BundleError, load_reference
with bentoml.models.create("toy:3") as model:
    shutil.copytree({str(toy_folder)!r}, model.path, dirs_exist_ok=True)
print(load_reference("toy:3").info().name, load_reference("toy").info().version)
for name in ("toy:4", "other"):
    try:
        load_reference(name)
    except BundleError as error:
        print(error)
"""
    lines = run_python(code, BENTOML_HOME=str(tmp_path / "store"), BENTOML_DO_NOT_TRACK="1").splitlines()
    assert lines[0] == "toy 1"
    assert lines[1].startswith("toy:4: expected the folder of a bundle or a tag in the model store, found neither")
    assert lines[2].startswith("other: expected the folder of a bundle or a tag in the model store")


def test_public_names_are_exact_and_all_there() -> None:
    assert set(totalanvi.serving.__all__) == {*errors.__all__, "ReferenceInfo", "load_reference"}
    assert dir(totalanvi.serving) == sorted(totalanvi.serving.__all__)
    for name in totalanvi.serving.__all__:
        assert getattr(totalanvi.serving, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        totalanvi.serving.surprise  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, totalanvi.serving; print([m for m in ('numpy', 'pydantic', 'bentoml') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_array_modules_do_without_the_engine() -> None:
    code = """
import sys
import totalanvi.serving.cells, totalanvi.serving.mapped, totalanvi.serving.features, totalanvi.serving.engine.engine
print([m for m in ('onnxruntime', 'safetensors', 'bentoml', 'torch') if m in sys.modules])
"""
    assert run_python(code).strip() == "[]"
