"""What a client asks before it sends cells: which reference is served, and what its features are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from totalanvi.serving.client.carrier import Carrier, parse_answer
from totalanvi.serving.client.chosen import asking_for, full_name
from totalanvi.serving.errors import EndpointError, StaleFeaturesError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.wire.protocol import difference
from totalanvi.serving.wire.schemas import EndpointInfo, FeaturesAnswer

__all__ = ["ask_features", "ask_info", "ask_landmarks"]

_PLACE_BYTES = 8


def ask_info(carrier: Carrier, reference: str | None = None) -> EndpointInfo:
    """Ask which reference is served now.

    Parameters
    ----------
    carrier
        To the endpoint.
    reference
        Which of its references is meant, None for the default one.

    Raises
    ------
    EndpointError
        When the endpoint cannot be reached, is none, or speaks another protocol version.
    """
    path = asking_for("/v1/info", reference)
    answer = carrier.get(path)
    _require_protocol(carrier.url, answer)
    return parse_answer(carrier, path, answer, EndpointInfo)


def ask_features(carrier: Carrier, info: EndpointInfo) -> ReferenceFeatures:
    """Ask for the features of a reference.

    Parameters
    ----------
    carrier
        To the endpoint.
    info
        What it has just said of its reference.

    Raises
    ------
    StaleFeaturesError
        When these are another reference's.
    EndpointError
        When the endpoint cannot be reached.
    """
    path = asking_for("/v1/features", full_name(info))
    found = parse_answer(carrier, path, carrier.get(path), FeaturesAnswer)
    if found.digest != info.features_digest:
        raise StaleFeaturesError(
            f"{carrier.url}: the reference was replaced while the client asked about it; try again."
        )
    return found.features


def ask_landmarks(carrier: Carrier, info: EndpointInfo) -> npt.NDArray[np.float32]:
    """Ask where a reference's own cells are on its map, (landmarks, 2).

    Parameters
    ----------
    carrier
        To the endpoint.
    info
        What it has said of its reference.

    Raises
    ------
    EndpointError
        When the endpoint cannot be reached, or answers with something else.
    """
    path = asking_for("/v1/landmarks", full_name(info))
    answer = carrier.get(path)
    if len(answer) % _PLACE_BYTES:
        raise EndpointError(
            f"{carrier.url}{path}: expected {_PLACE_BYTES} bytes for each place, found {len(answer)} bytes; ask the "
            "endpoint's operator."
        )
    return np.frombuffer(answer, "<f4").reshape(-1, 2).astype(np.float32)


def _require_protocol(url: str, answer: bytes) -> None:
    try:
        found: Any = json.loads(answer)["protocol"]
    except (ValueError, KeyError, TypeError) as error:
        raise EndpointError(
            f"{url}: expected a totalanvi endpoint, found something else that answers; check the URL."
        ) from error
    if (wrong := difference(found, "this end", "the endpoint")) is not None:
        raise EndpointError(f"{url}: {wrong}.")
