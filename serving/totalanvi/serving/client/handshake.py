"""What a client asks before it sends cells: which reference is served, and what its features are."""

from __future__ import annotations

import json
from typing import Any

from totalanvi.serving.client.carrier import Carrier, parse_answer
from totalanvi.serving.errors import EndpointError, StaleFeaturesError
from totalanvi.serving.features import ReferenceFeatures
from totalanvi.serving.wire.chunks import PROTOCOL
from totalanvi.serving.wire.schemas import EndpointInfo, FeaturesAnswer

__all__ = ["ask_features", "ask_info"]


def ask_info(carrier: Carrier) -> EndpointInfo:
    """Ask which reference is served now.

    Raises
    ------
    EndpointError
        When the endpoint cannot be reached, is none, or speaks another protocol version.
    """
    answer = carrier.get("/v1/info")
    _require_protocol(carrier.url, answer)
    return parse_answer(carrier, "/v1/info", answer, EndpointInfo)


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
    found = parse_answer(carrier, "/v1/features", carrier.get("/v1/features"), FeaturesAnswer)
    if found.digest != info.features_digest:
        raise StaleFeaturesError(
            f"{carrier.url}: the reference was replaced while the client asked about it; try again."
        )
    return found.features


def _require_protocol(url: str, answer: bytes) -> None:
    try:
        found: Any = json.loads(answer)["protocol"]
    except (ValueError, KeyError, TypeError) as error:
        raise EndpointError(
            f"{url}: expected a totalanvi endpoint, found something else that answers; check the URL."
        ) from error
    if found != PROTOCOL:
        older = "the endpoint" if isinstance(found, int) and found < PROTOCOL else "this end"
        raise EndpointError(f"{url}: expected protocol {PROTOCOL}, found {found!r}; upgrade totalanvi at {older}.")
