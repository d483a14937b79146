"""Cells survive every format, and damage anywhere in one is an error or harmless, never a crash."""

from __future__ import annotations

import gzip
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from tests.support.stored_queries import FORMATS, read_blocks, write_tenx_folder
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import QueryError
from totalanvi.serving.queries.readers import open_query, read_object

FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MANY = settings(FEW, max_examples=25)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Name a folder that each example empties before it uses it."""
    return tmp_path / "example"


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8).filter(
    lambda name: name.strip(".") and "/" not in name and "\\" not in name
)


@st.composite
def queries(draw: st.DrawFn) -> AnnData:
    n_cells, n_genes, n_proteins = (draw(st.integers(1, size)) for size in (7, 6, 3))
    counts = draw(arrays(np.int32, (n_cells, n_genes), elements=st.integers(0, 1 << 20), fill=st.just(0)))
    cells, genes, proteins = (
        draw(st.lists(names, min_size=n, max_size=n, unique=True)) for n in (n_cells, n_genes, n_proteins)
    )
    query = AnnData(
        sparse.csr_matrix(counts), obs=pd.DataFrame(index=pd.Index(cells)), var=pd.DataFrame(index=pd.Index(genes))
    )
    values = draw(arrays(np.int32, (n_cells, n_proteins), elements=st.integers(0, 1 << 20)))
    query.obsm["protein_expression"] = pd.DataFrame(values, index=query.obs_names, columns=proteins)
    return query


@pytest.mark.parametrize("kind", ["h5ad", "10x folder", "10x folder, not compressed", "zarr 3"])
@FEW
@given(query=queries(), size=st.integers(1, 8))
def test_any_cells_survive_any_format(kind: str, empty: Path, query: AnnData, size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = FORMATS[kind](query, fresh(empty))
    with open_query(path) as source:
        blocks = list(source.blocks(size))
        assert list(source.cell_ids) == list(query.obs_names)
        assert list(source.gene_names) == list(query.var_names)
        assert list(source.protein_names) == list(query.obsm["protein_expression"].columns)
    np.testing.assert_array_equal(np.concatenate([block.rna.toarray() for block in blocks]), query.X.toarray())
    np.testing.assert_array_equal(
        np.concatenate([block.proteins for block in blocks]), query.obsm["protein_expression"]
    )


damage = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4), st.booleans())


def damaged(content: bytes, place: float, new: bytes, cut: bool) -> bytes:
    start = int(place * len(content))
    return content[:start] if cut else content[:start] + new + content[start + len(new) :]


def read_without_crash(path: Path) -> None:
    """Damage to a name or a count cannot be seen; any other has to be one error, of the known kind."""
    for read in (lambda: read_object(path), lambda: read_blocks(path)):
        with warnings.catch_warnings(), suppress(QueryError):
            warnings.simplefilter("ignore")
            read()


@pytest.mark.parametrize("kind", ["10x h5", "h5ad"])
@MANY
@given(where=damage)
def test_a_damaged_file_never_crashes(kind: str, empty: Path, where: tuple[float, bytes, bool]) -> None:
    path = FORMATS[kind](toy_query(12), fresh(empty))
    path.write_bytes(damaged(path.read_bytes(), *where))
    read_without_crash(path)


@pytest.mark.parametrize("inside", [False, True], ids=["archive", "text"])
@MANY
@given(where=damage, name=st.sampled_from(["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"]))
def test_a_damaged_10x_folder_never_crashes(
    inside: bool, empty: Path, where: tuple[float, bytes, bool], name: str
) -> None:
    file = write_tenx_folder(toy_query(12), fresh(empty) / "query") / name
    content = file.read_bytes()
    file.write_bytes(gzip.compress(damaged(gzip.decompress(content), *where)) if inside else damaged(content, *where))
    read_without_crash(file.parent)


@pytest.fixture(scope="module", params=["zarr 2", "zarr 3"])
def whole_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a Zarr folder once; each example damages a copy, since writing one takes long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FORMATS[request.param](toy_query(12), tmp_path_factory.mktemp("whole"))


@MANY
@given(where=damage, which=st.floats(0, 1, exclude_max=True), gone=st.booleans())
def test_a_damaged_zarr_folder_never_crashes(
    whole_store: Path, empty: Path, where: tuple[float, bytes, bool], which: float, gone: bool
) -> None:
    store = Path(shutil.copytree(whole_store, fresh(empty) / "query.zarr"))
    files = sorted(path for path in store.rglob("*") if path.is_file())
    file = files[int(which * len(files))]
    if gone:
        file.unlink()
    else:
        file.write_bytes(damaged(file.read_bytes(), *where))
    read_without_crash(store)
