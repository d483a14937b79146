"""Files in steps: uploaded once, looked at, mapped once, taken away in several forms, and gone in the end."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import anndata
import httpx
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from tests.support.pages import parse_page, references_elsewhere
from tests.support.stored_queries import FORMATS
from tests.support.toy_bundle import TOY, toy_query
from tests.support.uploads import MAX_BYTES, Open, left, refusal, wait_until_empty

from totalanvi.formats.mudata_options import not_pulling
from totalanvi.serving.endpoint.access.keys import Keys, fixed_keys, parse_keys
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.files.columns import MAGIC
from totalanvi.serving.mapping.local import LocalReference


@pytest.fixture(autouse=True)
def _nothing_is_left(uploads: Path) -> Iterator[None]:
    # Set up before servers are, and so torn down after they have ended.
    yield
    assert left(uploads) == []


def stored(query: AnnData, path: Path) -> bytes:
    query.write_h5ad(path)
    return path.read_bytes()


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    """40 cells as a file."""
    return stored(toy_query(40), tmp_path / "forty.h5ad")


def uploaded(web: httpx.Client, body: bytes, **headers: str) -> str:
    answer = web.post("/v1/uploads", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"/v1/uploads/{answer.json()['id']}"


def wait(web: httpx.Client, url: str, **headers: str) -> httpx.Response:
    """Wait until a file is mapped, or is not going to be."""
    end = time.monotonic() + 60
    while (answer := web.get(url, headers=headers)).status_code == 200 and answer.json()["stage"] != "mapped":
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
    return answer


def mapped(web: httpx.Client, url: str, options: str = "") -> None:
    assert web.post(f"{url}/map{options}").status_code == 202
    assert wait(web, url).status_code == 200


def columns_of(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read columns as the page does; returns what stands beside them, and them."""
    length = int.from_bytes(content[8:16], "little")
    assert content[:8] == MAGIC
    assert length % 8 == 0
    about = json.loads(content[16 : 16 + length])
    body = content[16 + length :]
    columns = {
        one["name"]: np.frombuffer(body[one["offset"] :][: one["bytes"]], np.dtype(one["type"]).newbyteorder("<"))
        for one in about["columns"]
    }
    return about, columns


def cells_mapped(web: httpx.Client) -> float:
    lines = web.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("totalanvi_cells_total"))


def test_a_file_is_looked_at_mapped_once_and_taken_away(
    opened: Open, uploads: Path, reference: LocalReference, tmp_path: Path
) -> None:
    web = opened()
    query = toy_query(40)
    query.obs_names = [f"cell ä{place}" for place in range(40)]
    query.uns["mine"] = "kept"
    sent = web.post("/v1/uploads", content=stored(query, tmp_path / "query.h5ad")).json()

    preview = sent["preview"]
    assert (preview["n_cells"], preview["kind"], preview["rna"]) == (40, "anndata", "X")
    assert preview["proteins"] == "obsm 'protein_expression'"
    assert preview["alignment"]["genes"]["matched"] == len(TOY.genes)
    assert cells_mapped(web) == 0
    url = f"/v1/uploads/{sent['id']}"
    assert web.get(url).json()["stage"] == "uploaded"
    mapped(web, url, "?name=%3Cb%3Eforty%3C/b%3E.h5ad")

    expected = reference.map(query)
    about, columns = columns_of(web.get(f"{url}/cells").content)
    assert about["cells"] == 40
    labels = np.array(about["names"]["label"])[columns["label"]]
    assert list(labels) == list(expected.obs["totalanvi_label"])
    certain = np.array(about["names"]["certain"])[columns["certain"]]
    assert list(certain) == list(expected.obs["totalanvi_certain"])
    sets = np.array(about["sets"])[columns["set"]]
    assert list(sets) == list(expected.obs["totalanvi_set"])
    np.testing.assert_array_equal(columns["confidence"], expected.obs["totalanvi_confidence"])
    np.testing.assert_array_equal(
        np.stack([columns["x"], columns["y"]], axis=1), expected.obsm["X_totalanvi_map"].astype(np.float32)
    )
    ends, names = columns["id_end"].tolist(), columns["id"].tobytes()
    assert [names[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)] == list(query.obs_names)

    place = TOY.proteins.index("CD4")
    ranged = web.get(f"{url}/proteins", headers={"Range": f"bytes={place * 160}-{place * 160 + 159}"})
    assert ranged.status_code == 206
    np.testing.assert_array_equal(np.frombuffer(ranged.content, "<f4"), expected.obsm["totalanvi_protein"]["CD4"])

    assert cells_mapped(web) == 40
    annotated = web.get(f"{url}/annotated")
    assert annotated.headers["content-disposition"] == 'attachment; filename="annotated.h5ad"'
    found = anndata.read_h5ad(BytesIO(annotated.content))
    assert list(found.obs["totalanvi_label"]) == list(expected.obs["totalanvi_label"])
    np.testing.assert_array_equal(found.obsm["X_totalanvi"], expected.obsm["X_totalanvi"])
    assert found.uns["mine"] == "kept"
    table = pd.read_parquet(BytesIO(web.get(f"{url}/parquet").content))
    text = pd.read_csv(BytesIO(web.get(f"{url}/csv").content))
    assert list(text.columns) == list(table.columns)
    assert list(text["totalanvi_label"]) == list(table["totalanvi_label"]) == list(labels)
    np.testing.assert_allclose(text["protein:CD4"], table["protein:CD4"])
    answer = web.get(f"{url}/report")
    assert answer.headers["content-disposition"] == 'attachment; filename="annotated.html"'
    page = parse_page(answer.text)
    assert references_elsewhere(page) == []
    assert page.all("h1")[0].text == "Mapped query: <b>forty</b>.h5ad"
    assert {row[0].partition(" ")[2] for row in page.section("Cell types").rows()[1:]} == set(labels)
    (canvas,) = page.section("Map").all("svg", class_="map")
    assert canvas.all("path")[0].attributes["d"].count("M") == len(reference.landmarks())
    assert cells_mapped(web) == 40

    assert web.delete(url).status_code == 204
    assert refusal(web.get(url))[0] == 404
    assert left(uploads) == []


def test_a_mudata_and_a_10x_file_come_back_as_they_should(opened: Open, tmp_path: Path) -> None:
    web = opened()
    query = toy_query(20)
    for form, suffix in (("h5mu", "h5mu"), ("10x h5", "h5ad")):
        (tmp_path / suffix).mkdir()
        url = uploaded(web, FORMATS[form](query, tmp_path / suffix).read_bytes())
        mapped(web, url, "?impute=false")
        answer = web.get(f"{url}/annotated")
        assert answer.headers["content-disposition"] == f'attachment; filename="annotated.{suffix}"'
        (tmp_path / f"back.{suffix}").write_bytes(answer.content)
        with not_pulling():
            found = mudata.read(tmp_path / f"back.{suffix}")
        obs = found["rna"].obs if suffix == "h5mu" else found.obs
        assert list(obs["totalanvi_guess"]) == list(query.obs["truth"])
        assert web.get(f"{url}/proteins").content == b""
        assert columns_of(web.get(f"{url}/cells").content)[0]["proteins"] == []


def test_a_file_is_mapped_again_in_another_way(opened: Open, body: bytes) -> None:
    web = opened()
    url = uploaded(web, body)
    mapped(web, url)
    assert web.get(f"{url}/csv").status_code == 200

    mapped(web, url, "?false_positive_rate=0.5")

    table = pd.read_csv(BytesIO(web.get(f"{url}/csv").content))
    assert list(table["totalanvi_label"] == "unknown") == list(table["totalanvi_novelty"] > 0.5)
    assert (table["totalanvi_label"] == "unknown").any()


def test_what_is_wrong_with_a_file_is_told_before_it_is_mapped(opened: Open, uploads: Path, tmp_path: Path) -> None:
    web = opened()
    normalised, mouse = toy_query(5), toy_query(5)
    normalised.X = normalised.X * 0.5
    mouse.var_names = [f"Gene{place:03d}" for place in range(mouse.n_vars)]
    mouse.var["gene_ids"] = [f"ENSMUSG{place:011d}" for place in range(mouse.n_vars)]
    cases = [
        (b"not HDF5", "QueryError", 422),
        (stored(normalised, tmp_path / "normalised.h5ad"), "CountsError", 422),
        (stored(mouse, tmp_path / "mouse.h5ad"), "AlignmentError", 422),
        (bytes(MAX_BYTES + 1), "TooLargeError", 413),
    ]
    for body, kind, status in cases:
        found = refusal(web.post("/v1/uploads", content=body))
        assert found[:2] == (status, kind)
        assert str(tmp_path) not in found[2]
    assert refusal(web.post("/v1/uploads?path=/etc/passwd", content=b"x"))[0] == 422
    assert left(uploads) == []


def test_what_goes_wrong_while_a_file_is_mapped_is_told_to_whoever_asks(opened: Open, tmp_path: Path) -> None:
    web = opened()
    late = toy_query(400)
    late.X = late.X.astype(np.float32)
    late.X.data[-1] = 0.5
    url = uploaded(web, stored(late, tmp_path / "late.h5ad"))
    assert web.post(f"{url}/map").status_code == 202

    for _ in range(2):
        assert refusal(wait(web, url))[:2] == (422, "CountsError")
    assert refusal(web.get(f"{url}/cells"))[1] == "CountsError"


def test_steps_have_an_order(opened: Open, body: bytes) -> None:
    web = opened()
    url = uploaded(web, body)

    for part in ("cells", "annotated", "csv"):
        status, _, message = refusal(web.get(f"{url}/{part}"))
        assert (status, "wait until it is" in message) == (409, True)
    assert web.post(f"{url}/map").status_code == 202
    assert refusal(web.post(f"{url}/map"))[0] == 409
    assert wait(web, url).status_code == 200
    for part in ("query.h5", "..", "%2e%2e%2fquery.h5", "annotated.json", "answers"):
        assert web.get(f"{url}/{part}").status_code in (404, 405)


def test_a_file_belongs_to_its_key_and_leaves_room_for_others(opened: Open, body: bytes) -> None:
    lines = "".join(f"{name}:{hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("one", "two"))
    web = opened(AccessSettings(fixed_keys(Keys(parse_keys(lines, "here")))), max_kept_files=2)
    one, two = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
    assert web.post("/v1/uploads", content=body).status_code == 401

    url = uploaded(web, body, **one)

    for method, path in (("GET", url), ("POST", f"{url}/map"), ("GET", f"{url}/cells"), ("DELETE", url)):
        assert web.request(method, path).status_code == 401
        assert web.request(method, path, headers=two).status_code == 404
    status, kind, message = refusal(web.post("/v1/uploads", content=body, headers=one))
    assert (status, kind, "1 of one key" in message) == (429, "BusyError", True)
    uploaded(web, body, **two)
    assert web.delete(url, headers=one).status_code == 204
    uploaded(web, body, **one)


def test_cells_are_charged_to_the_key_once(opened: Open, body: bytes) -> None:
    key = hashlib.sha256(b"one").hexdigest()
    web = opened(AccessSettings(fixed_keys(Keys(parse_keys(f"one:{key} cells_per_day=60", "here")))))
    one = {"Authorization": "Bearer one"}
    url = uploaded(web, body, **one)
    assert web.post(f"{url}/map", headers=one).status_code == 202
    assert wait(web, url, **one).status_code == 200

    assert web.get(f"{url}/annotated", headers=one).status_code == 200
    second = uploaded(web, body, **one)
    assert web.post(f"{second}/map", headers=one).status_code == 202
    assert refusal(wait(web, second, **one))[:2] == (429, "QuotaError")


def test_bytes_are_bounded(opened: Open, uploads: Path, body: bytes) -> None:
    web = opened(max_kept_bytes=len(body) + 40_000)
    url = uploaded(web, body)

    status, kind, message = refusal(web.post("/v1/uploads", content=body))
    assert (status, kind, "room for" in message) == (429, "BusyError", True)
    # Its own results find no room, either: an answer of 16 cells does, a table does not.
    assert web.post(f"{url}/map").status_code == 202
    assert wait(web, url).status_code in (404, 413, 507)
    web.delete(url)
    wait_until_empty(uploads)
    uploaded(web, body)


def test_what_nobody_asks_for_is_removed(opened: Open, uploads: Path, body: bytes) -> None:
    web = opened(kept_seconds=3)
    url = uploaded(web, body)
    mapped(web, url)

    wait_until_empty(uploads)

    status, _, message = refusal(web.get(url))
    assert (status, "Send it again" in message) == (404, True)


def test_removing_a_file_ends_its_work_and_so_does_the_endpoints_end(
    opened: Open, uploads: Path, tmp_path: Path
) -> None:
    web = opened()
    many = stored(toy_query(2000), tmp_path / "many.h5ad")
    url = uploaded(web, many)
    assert web.post(f"{url}/map").status_code == 202
    assert web.delete(url).status_code == 204
    assert left(uploads) == []
    last = uploaded(web, many)
    assert web.post(f"{last}/map").status_code == 202
    assert left(uploads)
