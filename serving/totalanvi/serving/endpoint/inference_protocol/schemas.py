"""JSON bodies of the Open Inference Protocol, version 2."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "InferenceAnswer",
    "InferenceFault",
    "InferenceRequest",
    "ModelMetadata",
    "RequestedOutput",
    "ServerMetadata",
    "Tensor",
    "TensorMetadata",
]

Parameters = dict[str, bool | int | float | str | None]


class _Body(BaseModel):
    # "model_" is a prefix that pydantic keeps for itself unless told otherwise.
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Tensor(_Body):
    """An array, with its values here or behind the JSON (``parameters.binary_data_size``)."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None
    """Values in row-major order, flat or nested."""


class RequestedOutput(_Body):
    """An output that is wanted; ``parameters.binary_data`` says whether its values are to stand behind the JSON."""

    name: str
    parameters: Parameters = {}


class InferenceRequest(_Body):
    """Body of ``POST /v2/models/NAME/infer``, or the JSON before the binary values."""

    id: str | None = None
    parameters: Parameters = {}
    """Options of mapping by name, see `totalanvi.serving.mapped.MapOptions`, and ``binary_data_output``."""
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[RequestedOutput] | None = None
    """All of them when left out."""


class InferenceAnswer(_Body):
    """Answer of ``POST /v2/models/NAME/infer``, or the JSON before the binary values."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


class InferenceFault(_Body):
    """Answer of a request that was refused or failed."""

    error: str


class TensorMetadata(_Body):
    """Name, type and shape of an input or output; -1 stands for the number of cells."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Body):
    """Answer of ``GET /v2/models/NAME``."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(_Body):
    """Answer of ``GET /v2``."""

    name: str
    version: str
    extensions: list[str]
