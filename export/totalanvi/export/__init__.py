"""Turn a trained checkpoint into a bundle: graphs in ONNX, calibrated and proven to compute what torch computes.

>>> from totalanvi.export import export_bundle
>>> export_bundle("checkpoint/", "bundle/")  # doctest: +SKIP

Names are imported when they are first used, so that the command line need not import torch to list its commands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from totalanvi.machine import telemetry

if TYPE_CHECKING:
    from totalanvi.export.bundle import export_bundle
    from totalanvi.export.errors import ExportError

telemetry.tell_nobody()

__all__ = ["ExportError", "export_bundle"]

_MODULES = {"ExportError": "errors", "export_bundle": "bundle"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__]
