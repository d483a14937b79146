"""The BentoML service: a thin class around the endpoint's application.

What BentoML offers and what is used of it: the server process, ``/livez``, ``/readyz`` (ready after warm-up), traces,
and the packing of a Bento. Its batching, its body parsing, its metrics and its access log are not used: bodies, limits
and status codes are the mounted application's.

The environment configures it, see `totalanvi.serving.endpoint.settings` and
`totalanvi.serving.endpoint.access.settings`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import bentoml
from starlette.applications import Starlette

from totalanvi.serving.endpoint.access.headers import SafeHeaders
from totalanvi.serving.endpoint.access.middleware import Access
from totalanvi.serving.endpoint.access.paths import PathsInOneLine
from totalanvi.serving.endpoint.access.settings import AccessSettings
from totalanvi.serving.endpoint.no_second_deadline import leave_out_bentoml_deadline
from totalanvi.serving.endpoint.page.routes import PAGE_PATHS
from totalanvi.serving.endpoint.plain_refusals import RefusalsInJson
from totalanvi.serving.endpoint.request_log import set_up_logging
from totalanvi.serving.endpoint.settings import Settings
from totalanvi.serving.endpoint.system_limits import allow_many_connections, keep_freed_memory

if TYPE_CHECKING:
    from totalanvi.serving.endpoint.routes import Endpoint

__all__ = ["TotalanviService"]

_TIMEOUT_MARGIN = 30
"""Seconds that BentoML waits beyond our own deadline: it can only cut a request off, not say what to do."""

# Usage reports go out only where the operator asks for them.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

settings = Settings.read(os.environ)


def _open_endpoint() -> Endpoint:
    """Make what answers requests, and let it load its references while BentoML prepares the rest of the process."""
    from totalanvi.serving.engine.ahead import compile_ahead

    allow_many_connections()
    keep_freed_memory()
    leave_out_bentoml_deadline()
    # The longest part of the start, and nothing else has to be imported before.
    compile_ahead(readout=False)
    from totalanvi.serving.endpoint.routes import Endpoint

    made = Endpoint(settings.limits, settings.make_references())
    made.start()
    return made


def _application() -> Starlette:
    """Return the endpoint's application, or an empty one where nothing is answered.

    The process with which BentoML supervises its workers imports this module as well: it starts them sooner this way.
    """
    if endpoint is None:
        return Starlette()
    from totalanvi.serving.endpoint.app import create_app

    return create_app(endpoint, settings.drain_seconds)


endpoint = None if bentoml.server_context.worker_index is None else _open_endpoint()


# One worker: ONNX Runtime uses every core, and each further worker would hold the reference once more.
@bentoml.asgi_app(_application())
@bentoml.service(
    name="totalanvi",
    workers=1,
    traffic={"timeout": max(settings.limits.request_seconds, settings.limits.file_seconds) + _TIMEOUT_MARGIN},
    metrics={"enabled": False},
    # Ours has the id of each request, and what it was about.
    logging={"access": {"enabled": False}},
)
class TotalanviService:
    """Maps single cells onto a CITE-seq reference."""

    def __init__(self) -> None:
        set_up_logging()

    async def __is_ready__(self) -> bool:
        return endpoint is not None and endpoint.ready


# BentoML's decorator turns the class into a service, which its types do not say.
_service: Any = TotalanviService
# Around all that the server answers, BentoML's own pages included; the first is the outermost.
_service.add_asgi_middleware(SafeHeaders)
_service.add_asgi_middleware(Access, settings=AccessSettings.from_environment(os.environ), pages=PAGE_PATHS)
_service.add_asgi_middleware(PathsInOneLine)
_service.add_asgi_middleware(RefusalsInJson)
