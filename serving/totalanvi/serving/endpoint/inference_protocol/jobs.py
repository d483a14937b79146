"""Inference requests, understood and answered: dense counts in the reference's order of genes and proteins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.endpoint.catalogue import Offer
from totalanvi.serving.endpoint.inference_protocol.schemas import InferenceAnswer, InferenceRequest, Tensor
from totalanvi.serving.endpoint.inference_protocol.tensors import BINARY_SIZE, as_tensor, read_tensor
from totalanvi.serving.endpoint.jobs import Answer, Find, Job, parse_body, within_limits
from totalanvi.serving.errors import QueryError, TooLargeError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.listing import quoted
from totalanvi.serving.mapped import PROTEIN_ARRAYS, MapOptions, MappedCells
from totalanvi.serving.outputs.label_names import certain_names, label_names
from totalanvi.serving.wire.counts import require_counts
from totalanvi.serving.wire.limits import Limits

__all__ = ["HEADER_LENGTH", "INPUTS", "inference_job", "output_shape", "outputs_of"]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""HTTP header that says how many bytes of a body are JSON; what follows them are values of tensors."""

INPUTS = ("rna", "protein")
_TEXT = ("label", "guess", "certain")
_ONE = ("confidence", "novelty")
_JSON = "application/json"
_BINARY = "application/octet-stream"
_BINARY_OUTPUT = "binary_data_output"


def outputs_of(info: ReferenceInfo) -> tuple[str, ...]:
    """Return the names of all outputs of a reference; the last ones are there only where proteins are imputed."""
    text = [name for name in _TEXT if name != "certain" or info.parents]
    return (*text, *_ONE, "probabilities", "label_set", "latent", "coordinates", *PROTEIN_ARRAYS)


def output_shape(name: str, info: ReferenceInfo) -> list[int]:
    """Return the shape of an output, -1 for the number of cells."""
    if name in (*_TEXT, *_ONE):
        return [-1]
    if name in ("probabilities", "label_set"):
        return [-1, len(info.labels)]
    if name == "latent":
        return [-1, info.n_latent]
    return [-1, 2] if name == "coordinates" else [-1, len(info.proteins)]


def inference_job(header_length: int | None) -> Callable[[bytes, Find, Limits], Job]:
    """Return what understands an inference request.

    Parameters
    ----------
    header_length
        How many bytes of the body are JSON, None for all of it.
    """

    def understand(body: bytes, find: Find, limits: Limits) -> Job:
        request, binary = _split(body, header_length)
        offer = find(None)
        wanted = _wanted(request, outputs_of(offer.info))
        options = _options(request, wanted)
        cells = within_limits(_cells(request, binary, offer, limits), limits)
        return Job(offer, cells, options, lambda mapped: _answer(request, wanted, offer, mapped))

    return understand


def _split(body: bytes, header_length: int | None) -> tuple[InferenceRequest, memoryview]:
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise QueryError(f"{HEADER_LENGTH}: expected at most the body's {len(body)} bytes, found {length}.")
    request = parse_body(
        InferenceRequest,
        body[:length],
        '{"inputs": [{"name": "rna", "shape": [CELLS, GENES], "datatype": "FP32", "data": […]}]} of the Open Inference '
        "Protocol",
    )
    return request, memoryview(body)[length:]


def _wanted(request: InferenceRequest, outputs: Sequence[str]) -> dict[str, bool]:
    """Return which outputs are wanted, and whether as bytes."""
    usual = request.parameters.get(_BINARY_OUTPUT) is True
    if request.outputs is None:
        return dict.fromkeys(outputs, usual)
    wanted = {output.name: output.parameters.get("binary_data", usual) is True for output in request.outputs}
    if unknown := [name for name in wanted if name not in outputs]:
        raise QueryError(f"outputs: expected some of {list(outputs)}, found {quoted(unknown)}; leave these out.")
    return wanted


def _options(request: InferenceRequest, wanted: dict[str, bool]) -> MapOptions:
    named: dict[str, Any] = {name: value for name, value in request.parameters.items() if name != _BINARY_OUTPUT}
    # What nobody asks for is not computed.
    impute = request.outputs is None or any(name in PROTEIN_ARRAYS for name in wanted)
    return MapOptions.from_dict({"impute": impute} | named)


def _cells(request: InferenceRequest, binary: memoryview, offer: Offer, limits: Limits) -> AlignedCells:
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if "rna" not in tensors or set(tensors) - set(INPUTS) or len(tensors) != len(request.inputs):
        raise QueryError(
            f"inputs: expected 'rna' and, where proteins were measured, 'protein', each once; found "
            f"{quoted([tensor.name for tensor in request.inputs])}."
        )
    parts = _parts(request.inputs, binary)
    info = offer.info
    counts = read_tensor(tensors["rna"], parts["rna"], info.n_genes)
    if len(counts) > limits.max_cells:
        raise TooLargeError(f"Expected at most {limits.max_cells} cells, found {len(counts)}; send fewer at a time.")
    require_counts("rna", counts)
    protein = np.full((len(counts), len(info.proteins)), np.nan, dtype=np.float32)
    if "protein" in tensors:
        protein = read_tensor(tensors["protein"], parts["protein"], len(info.proteins))
    if len(protein) != len(counts):
        raise QueryError(f"protein: expected the {len(counts)} cells of 'rna', found {len(protein)}.")
    measured = ~np.isnan(protein)
    protein = np.where(measured, protein, np.float32(0))
    require_counts("protein", protein)
    rna = sparse.csr_matrix(counts)
    return AlignedCells(rna, np.asarray(rna.sum(axis=1), dtype=np.float32).ravel(), protein, measured)


def _parts(tensors: list[Tensor], binary: memoryview) -> dict[str, memoryview]:
    """Cut what stands behind the JSON into the bytes of each tensor."""
    parts: dict[str, memoryview] = {}
    start = 0
    for tensor in tensors:
        size = tensor.parameters.get(BINARY_SIZE, 0)
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise QueryError(f"{tensor.name}: expected a number of bytes as `{BINARY_SIZE}`, found {size!r}.")
        parts[tensor.name] = binary[start : start + size]
        start += size
    if start != len(binary):
        raise QueryError(
            f"Expected {start} bytes behind the JSON, as the tensors' `{BINARY_SIZE}` say, found {len(binary)}; set "
            f"the header {HEADER_LENGTH} to the length of the JSON."
        )
    return parts


def _answer(request: InferenceRequest, wanted: dict[str, bool], offer: Offer, mapped: MappedCells) -> Answer:
    arrays = _outputs(mapped, offer.features)
    tensors: list[Tensor] = []
    behind: list[bytes] = []
    for name, binary in wanted.items():
        if name in arrays:
            tensor, content = as_tensor(name, arrays[name], binary)
            tensors.append(tensor)
            behind.append(content)
    info = offer.info
    answer = InferenceAnswer(model_name=info.name, model_version=info.version, id=request.id, outputs=tensors)
    said = answer.model_dump_json(exclude_defaults=True).encode()
    if not any(wanted.values()):
        return Answer(said, _JSON)
    return Answer(said + b"".join(behind), _BINARY, {HEADER_LENGTH: str(len(said))})


def _outputs(mapped: MappedCells, features: ReferenceFeatures) -> dict[str, npt.NDArray[Any]]:
    names = np.array(label_names(features))
    arrays: dict[str, npt.NDArray[Any]] = dict(mapped.arrays())
    return arrays | {
        "label": names[mapped.label],
        "guess": names[mapped.guess],
        "certain": np.array(certain_names(features))[mapped.certain],
    }
