"""The Open Inference Protocol, version 2, asked as its specification says, over plain HTTP."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.support.server import app_in_thread, endpoint_of, wait_for
from tests.support.toy_bundle import TOY, toy_cells, write_toy_bundle

from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.limits import Limits

N_CELLS = 9
HEADER = "Inference-Header-Content-Length"
CELLS, _ = toy_cells(N_CELLS)
RNA = CELLS.rna.toarray()
PROTEIN = np.where(CELLS.measured, CELLS.protein, np.float32(np.nan))
INFER = "/v2/models/toy/infer"
TYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}


@pytest.fixture(scope="module")
def web(reference: LocalReference) -> Iterator[httpx.Client]:
    endpoint = endpoint_of(reference.bundle.path, Limits(max_cells=50, max_body_bytes=200_000), lambda _: reference)
    with app_in_thread(create_app(endpoint)) as client:
        wait_for(lambda: endpoint.ready)
        yield client


def numbers(array: np.ndarray) -> list[Any]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in array]


def json_inputs(protein: bool = True) -> list[dict[str, Any]]:
    rna = {"name": "rna", "shape": list(RNA.shape), "datatype": "FP32", "data": numbers(RNA)}
    flat = [value for row in numbers(PROTEIN) for value in row]
    with_protein = {"name": "protein", "shape": list(PROTEIN.shape), "datatype": "FP32", "data": flat}
    return [rna, with_protein] if protein else [rna]


def binary(arrays: dict[str, np.ndarray], datatype: str = "FP32", **request: Any) -> tuple[bytes, dict[str, str]]:
    parts = {name: array.astype(TYPES[datatype]).tobytes() for name, array in arrays.items()}
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": len(parts[name])},
        }
        for name, array in arrays.items()
    ]
    head = json.dumps({"inputs": inputs} | request).encode()
    return head + b"".join(parts.values()), {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}


def read_binary(answer: httpx.Response) -> dict[str, Any]:
    length = int(answer.headers[HEADER])
    head, rest = json.loads(answer.content[:length]), answer.content[length:]
    found: dict[str, Any] = {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
            continue
        content, rest = rest[:size], rest[size:]
        if output["datatype"] == "BYTES":
            found[output["name"]] = texts(content)
        else:
            dtype = {"FP32": "<f4", "BOOL": "?"}[output["datatype"]]
            found[output["name"]] = np.frombuffer(content, dtype).reshape(output["shape"])
    assert rest == b""
    return found


def texts(content: bytes) -> list[str]:
    found = []
    while content:
        (size,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    return found


def assert_same(found: dict[str, Any], expected: MappedCells) -> None:
    names = np.array([*TOY.labels, "unknown"])
    assert list(found["label"]) == list(names[expected.label])
    assert list(found["guess"]) == list(names[expected.guess])
    arrays = {name: array for name, array in expected.arrays().items() if name not in ("label", "guess", "certain")}
    assert set(arrays) <= set(found)
    for name, array in arrays.items():
        values = np.array(found[name], dtype=np.float64).reshape(array.shape)
        np.testing.assert_allclose(values, array.astype(np.float64), rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_server_and_its_health(web: httpx.Client) -> None:
    assert web.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/toy/ready", "/v2/models/toy/versions/1/ready"):
        assert web.get(path).status_code == 200


def test_a_model_says_what_goes_in_and_out(web: httpx.Client) -> None:
    model = web.get("/v2/models/toy").json()

    assert (model["name"], model["versions"]) == ("toy", ["1"])
    assert {tensor["name"]: tensor["shape"] for tensor in model["inputs"]} == {
        "rna": [-1, len(TOY.genes)],
        "protein": [-1, len(TOY.proteins)],
    }
    outputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in model["outputs"]}
    assert outputs["label"] == ("BYTES", [-1])
    assert outputs["label_set"] == ("BOOL", [-1, len(TOY.labels)])
    assert outputs["protein_low"] == ("FP32", [-1, len(TOY.proteins)])


def test_labels_without_parents_have_no_certain_ones(tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy", parents={})
    reference = LocalReference(bundle, provider="cpu")
    endpoint = endpoint_of(bundle, opened=lambda _: reference)
    endpoint.references.look()
    with app_in_thread(create_app(endpoint)) as web:
        described = [tensor["name"] for tensor in web.get("/v2/models/toy").json()["outputs"]]
        answer = web.post(INFER, json={"inputs": json_inputs(), "parameters": {"samples": 2}}).json()
        asked = web.post(INFER, json={"inputs": json_inputs(), "outputs": [{"name": "certain"}]})
    assert [output["name"] for output in answer["outputs"]] == described
    assert "certain" not in described
    assert asked.status_code == 422
    assert "found 'certain'; leave these out" in asked.json()["error"]


def test_json_in_and_out(web: httpx.Client, reference: LocalReference) -> None:
    answer = web.post(INFER, json={"id": "mine", "inputs": json_inputs(), "parameters": {"samples": 2}})

    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("toy", "1", "mine")
    found = {output["name"]: output["data"] for output in body["outputs"]}
    assert_same(found, reference.score(CELLS, MapOptions(samples=2)))
    described = {tensor["name"]: tensor for tensor in web.get("/v2/models/toy").json()["outputs"]}
    for output in body["outputs"]:
        assert output["datatype"] == described[output["name"]]["datatype"]
        assert output["shape"] == [N_CELLS, *described[output["name"]]["shape"][1:]]


@pytest.mark.parametrize("datatype", list(TYPES))
def test_binary_in_and_out(web: httpx.Client, reference: LocalReference, datatype: str) -> None:
    body, headers = binary({"rna": RNA}, datatype, parameters={"binary_data_output": True, "samples": 2})

    answer = web.post("/v2/models/toy/versions/1/infer", content=body, headers=headers)

    assert answer.headers["content-type"] == "application/octet-stream"
    alone = toy_cells(N_CELLS, measured_share=0)[0]
    assert_same(read_binary(answer), reference.score(alone, MapOptions(samples=2)))


def test_two_tensors_behind_the_json_in_any_order(web: httpx.Client, reference: LocalReference) -> None:
    body, headers = binary({"protein": PROTEIN, "rna": RNA}, parameters={"binary_data_output": True})

    assert_same(read_binary(web.post(INFER, content=body, headers=headers)), reference.score(CELLS, MapOptions()))


def test_only_what_is_wanted_is_sent_and_each_as_it_is_wanted(web: httpx.Client) -> None:
    outputs = [{"name": "confidence", "parameters": {"binary_data": True}}, {"name": "label"}]

    answer = web.post(INFER, json={"inputs": json_inputs(), "outputs": outputs})

    found = read_binary(answer)
    assert list(found) == ["confidence", "label"]
    assert isinstance(found["confidence"], np.ndarray)
    assert isinstance(found["label"], list)


def test_proteins_are_not_computed_for_those_who_do_not_want_them(web: httpx.Client) -> None:
    answer = web.post(INFER, json={"inputs": json_inputs(), "parameters": {"impute": False}})

    assert "protein" not in {output["name"] for output in answer.json()["outputs"]}


def test_what_is_not_known_is_null(web: httpx.Client) -> None:
    body = web.post(INFER, json={"inputs": json_inputs(), "outputs": [{"name": "protein_low"}]}).json()

    low = np.array(body["outputs"][0]["data"], dtype=np.float64).reshape(N_CELLS, -1)
    assert np.isnan(low[:, TOY.proteins.index("IgG1")]).all()


RNA_INPUT = {"name": "rna", "shape": [1, len(TOY.genes)], "datatype": "FP32", "data": [1] * len(TOY.genes)}


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ({"inputs": []}, "found at inputs"),
        ({"inputs": [RNA_INPUT | {"name": "genes"}]}, "expected 'rna'"),
        ({"inputs": [RNA_INPUT, RNA_INPUT]}, "each once"),
        ({"inputs": [RNA_INPUT | {"shape": [1, 3]}]}, "in the order of /v1/features"),
        ({"inputs": [RNA_INPUT | {"shape": [0, len(TOY.genes)]}]}, "at least one cell"),
        ({"inputs": [RNA_INPUT | {"shape": [-1, len(TOY.genes)]}]}, "at least one cell"),
        ({"inputs": [RNA_INPUT | {"shape": [len(TOY.genes)]}]}, "expected the shape"),
        ({"inputs": [RNA_INPUT | {"datatype": "FP16"}]}, "expected a datatype of"),
        ({"inputs": [RNA_INPUT | {"data": [1, 2, 3]}]}, "values as the shape says, found 3"),
        ({"inputs": [RNA_INPUT | {"data": [[1, 2], [3]]}]}, "lists of the same length"),
        ({"inputs": [RNA_INPUT | {"data": ["a"] * len(TOY.genes)}]}, "expected numbers"),
        ({"inputs": [RNA_INPUT | {"data": [0.5] * len(TOY.genes)}]}, "raw counts"),
        ({"inputs": [RNA_INPUT | {"data": [-1] * len(TOY.genes)}]}, "raw counts"),
        ({"inputs": [RNA_INPUT | {"data": [None] * len(TOY.genes)}]}, "raw counts"),
        ({"inputs": [RNA_INPUT | {"data": [1e300] * len(TOY.genes)}]}, "raw counts"),
        ({"inputs": [RNA_INPUT | {"data": None}]}, "found 0; send `data`"),
        ({"inputs": [RNA_INPUT], "outputs": [{"name": "labels"}]}, "leave these out"),
        ({"inputs": [RNA_INPUT], "parameters": {"sample": 1}}, "leave these out"),
        ({"inputs": [RNA_INPUT], "parameters": {"samples": 0}}, "samples"),
        (
            {"inputs": [RNA_INPUT, {"name": "protein", "shape": [2, 6], "datatype": "FP32", "data": [1] * 12}]},
            "expected the 1 cells of 'rna', found 2",
        ),
    ],
)
def test_what_cannot_be_mapped_is_a_message(web: httpx.Client, request_body: Any, words: str) -> None:
    answer = web.post(INFER, json=request_body)

    assert answer.status_code == 422
    assert words in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "5", "1.5"])
def test_a_header_that_lies_is_refused(web: httpx.Client, length: str) -> None:
    body, headers = binary({"rna": RNA})

    answer = web.post(INFER, content=body, headers=headers | {HEADER: length})

    assert answer.status_code == 422
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("size", [0, -4, 4, 10**12, True, "8", None])
def test_sizes_that_lie_are_refused(web: httpx.Client, size: Any) -> None:
    body, headers = binary({"rna": RNA})
    length = int(headers[HEADER])
    head = json.loads(body[:length])
    head["inputs"][0]["parameters"]["binary_data_size"] = size
    lying = json.dumps(head).encode()

    answer = web.post(INFER, content=lying + body[length:], headers=headers | {HEADER: str(len(lying))})

    assert answer.status_code == 422
    assert "binary_data_size" in answer.json()["error"]


def test_other_refusals_are_messages_too(web: httpx.Client) -> None:
    many, headers = binary({"rna": np.ones((51, len(TOY.genes)))})
    answers = {
        404: web.post("/v2/models/other/infer", json={"inputs": [RNA_INPUT]}),
        413: web.post(INFER, content=many, headers=headers),
        415: web.post(INFER, content=b"x", headers={"Content-Encoding": "gzip"}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert isinstance(answer.json()["error"], str)
    assert web.get("/v2/models/toy/versions/2").status_code == 404
    assert web.get("/v2/models/other/ready").status_code == 404
