"""The BentoML service: a thin class around the endpoint's application.

What BentoML offers and what is used of it: the server process, ``/livez``, ``/readyz`` (ready after warm-up), access
logs, and the packing of a Bento. Its batching, its body parsing and its metrics are not used: bodies, limits and status
codes are the mounted application's.

The environment configures it: ``TOTALANVI_REFERENCE`` is a bundle's folder or a model-store tag; for the rest see
`totalanvi.serving.wire.limits.Limits` and `totalanvi.serving.endpoint.access.settings.AccessSettings`.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import bentoml

from totalanvi.serving.endpoint.access.headers import SafeHeaders
from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.app import create_app
from totalanvi.serving.endpoint.page.routes import PAGE_PATHS
from totalanvi.serving.endpoint.routes import Endpoint
from totalanvi.serving.errors import SettingsError
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.reference import find_bundle
from totalanvi.serving.wire.limits import Limits

__all__ = ["REFERENCE_VARIABLE", "TotalanviService"]

REFERENCE_VARIABLE = "TOTALANVI_REFERENCE"

_TIMEOUT_MARGIN = 30
"""Seconds that BentoML waits beyond our own deadline: it can only cut a request off, not say what to do."""


def _open_reference() -> LocalReference:
    name = os.environ.get(REFERENCE_VARIABLE)
    if not name:
        raise SettingsError(
            f"{REFERENCE_VARIABLE}: expected a bundle's folder or a model-store tag, found nothing; set it and restart."
        )
    return LocalReference(find_bundle(name))


# Usage reports go out only where the operator asks for them.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

endpoint = Endpoint(Limits.from_environment(os.environ), _open_reference)


# One worker: ONNX Runtime uses every core, and each further worker would hold the reference once more.
@bentoml.asgi_app(create_app(endpoint))
@bentoml.service(
    name="totalanvi",
    workers=1,
    traffic={"timeout": max(endpoint.limits.request_seconds, endpoint.limits.file_seconds) + _TIMEOUT_MARGIN},
    metrics={"enabled": False},
)
class TotalanviService:
    """Maps single cells onto a CITE-seq reference."""

    def __init__(self) -> None:
        # BentoML shows warnings of other packages only.
        logging.getLogger("totalanvi").setLevel(logging.INFO)

    async def __is_ready__(self) -> bool:
        return endpoint.ready


# BentoML's decorator turns the class into a service, which its types do not say.
_service: Any = TotalanviService
# Around all that the server answers, BentoML's own pages included; the first is the outermost.
_service.add_asgi_middleware(SafeHeaders)
_service.add_asgi_middleware(Access, settings=AccessSettings.from_environment(os.environ), pages=PAGE_PATHS)
