"""Zarr folders that are damaged, foreign or hostile: one clear error each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.support.queries import refusal
from tests.support.stored_queries import FORMATS, read_blocks, refused_whole_and_in_blocks
from tests.support.toy_bundle import toy_query

from totalanvi.serving.errors import QueryError
from totalanvi.serving.queries.readers import read_object


@pytest.fixture(scope="module", params=["zarr 2", "zarr 3"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A query of 12 cells. Not to be changed."""
    return FORMATS[request.param](toy_query(12), tmp_path_factory.mktemp("written"))


@pytest.fixture
def store(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to do things to."""
    return Path(shutil.copytree(written, tmp_path / written.name))


def test_links_out_of_a_zarr_folder_are_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    for target in (tmp_path / "secret", tmp_path / "secret" / "chunk"):
        (store / "uns" / "link").symlink_to(target)
        refused_whole_and_in_blocks(store, "a link that leads out of it", "'uns/link'", "Copy it")
        (store / "uns" / "link").unlink()
    shutil.move(store / "X", tmp_path / "secret" / "X")
    (store / "X").symlink_to(tmp_path / "secret" / "X")
    refused_whole_and_in_blocks(store, "a link that leads out of it", "'X'")


def test_a_link_to_a_zarr_folder_is_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    np.testing.assert_array_equal(read_object(tmp_path / "link").X.toarray(), toy_query(12).X.toarray())


def test_a_pipe_in_a_zarr_folder_is_refused(store: Path) -> None:
    os.mkfifo(store / "uns" / "0")
    refused_whole_and_in_blocks(store, "neither a file nor a folder", "'uns/0'")


def _change_metadata(store: Path, array: str, change: Callable[[dict[str, object]], object]) -> None:
    file = next(path for name in (".zarray", "zarr.json") if (path := store / array / name).is_file())
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))
    # What was consolidated would be read instead.
    (store / ".zmetadata").unlink(missing_ok=True)


@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle", "json2", "made-up"])
@pytest.mark.parametrize("array", ["X/data", "obs/truth/categories"])
def test_codecs_that_could_run_code_are_refused(codec: str, array: str, store: Path) -> None:
    def change(metadata: dict[str, object]) -> None:
        if "codecs" in metadata:
            metadata["codecs"] = [{"name": codec, "configuration": {}}]
        else:
            metadata["filters"] = [{"id": codec}]

    _change_metadata(store, array if (store / array).exists() else "obs/truth", change)
    refused_whole_and_in_blocks(store, f"the codec {codec!r}", "anndata's own codecs")


def test_a_codec_inside_another_is_refused(tmp_path: Path) -> None:
    store = FORMATS["zarr 3"](toy_query(12), tmp_path)
    sharding = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    _change_metadata(store, "X/data", lambda metadata: metadata.update(codecs=[sharding]))
    refused_whole_and_in_blocks(store, "the codec 'numcodecs.pickle'")


def test_arrays_of_python_objects_are_refused(tmp_path: Path) -> None:
    store = FORMATS["zarr 2"](toy_query(12), tmp_path)
    _change_metadata(store, "X/data", lambda metadata: metadata.update(dtype="|O", filters=None))
    refused_whole_and_in_blocks(store, "an array of Python objects", "'X/data/.zarray'")


def test_consolidated_metadata_is_looked_through(tmp_path: Path) -> None:
    store = FORMATS["zarr 2"](toy_query(12), tmp_path)
    original = (store / ".zmetadata").read_text()
    consolidated = json.loads(original)
    consolidated["metadata"]["X/data/.zarray"]["filters"] = [{"id": "pickle"}]
    (store / ".zmetadata").write_text(json.dumps(consolidated))
    refused_whole_and_in_blocks(store, "the codec 'pickle'", "'.zmetadata'")
    consolidated = json.loads(original)
    consolidated["metadata"]["uns/../../secret/.zarray"] = consolidated["metadata"]["X/data/.zarray"]
    (store / ".zmetadata").write_text(json.dumps(consolidated))
    refused_whole_and_in_blocks(store, "an array with '..' in its name")


ZARR_FAULTS: dict[str, Callable[[Path], object]] = {
    "no matrix": lambda store: shutil.rmtree(store / "X" / "data"),
    "no names": lambda store: shutil.rmtree(store / "obs" / "_index"),
    "no genes": lambda store: shutil.rmtree(store / "var"),
    "metadata that is no JSON": lambda store: [
        path.write_text("{") for name in (".zattrs", "zarr.json") for path in (store / "X").glob(name)
    ],
    "a piece of its values missing": lambda store: [
        path.unlink() for path in (store / "X" / "data").rglob("*") if path.name.isdecimal()
    ],
    "damaged values": lambda store: [
        path.write_bytes(b"damage") for path in (store / "X" / "data").rglob("*") if path.name.isdecimal()
    ],
    "pointers that fall": lambda store: zarr.open_array(store / "X" / "indptr", mode="r+").__setitem__(4, 0),
    "a gene there is not": lambda store: zarr.open_array(store / "X" / "indices", mode="r+").__setitem__(3, 60),
}


@pytest.mark.parametrize("fault", ZARR_FAULTS)
def test_a_faulty_zarr_folder_is_refused(fault: str, store: Path) -> None:
    (store / ".zmetadata").unlink(missing_ok=True)
    ZARR_FAULTS[fault](store)
    refusal(QueryError, lambda: read_blocks(store))


@pytest.mark.parametrize("place", ["X", "layers/counts", "raw/X", "mod/rna/X"])
def test_a_folder_that_was_copied_in_part_is_refused(place: str, tmp_path: Path) -> None:
    query = toy_query(12)
    query.layers["counts"] = query.X.copy()
    query.raw = query
    store = FORMATS["zarr 3 of a MuData" if place.startswith("mod") else "zarr 3"](query, tmp_path)
    shutil.rmtree(store / place / "data" / "c")
    refused_whole_and_in_blocks(store, "1 pieces", f"'{place}/data'", "found 0", "Copy the folder again")
