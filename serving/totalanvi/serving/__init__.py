"""Map query cells onto a served CITE-seq reference: in this process, or at an endpoint.

>>> from totalanvi.serving import load_reference
>>> reference = load_reference("bundle/")  # doctest: +SKIP
>>> annotated = reference.map(adata, proteins="protein_expression")  # doctest: +SKIP

Names are imported when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from totalanvi.machine import telemetry

if TYPE_CHECKING:
    from totalanvi.serving.bundles.info import ReferenceInfo
    from totalanvi.serving.errors import (
        AccessError,
        AlignmentError,
        BundleError,
        BusyError,
        CountsError,
        DeadlineError,
        DeviceError,
        EndpointError,
        FaultError,
        HubError,
        MediaTypeError,
        NotReadyError,
        OutOfTimeError,
        OutputError,
        QueryError,
        QuotaError,
        ServingError,
        SettingsError,
        StaleFeaturesError,
        TooLargeError,
        UnknownReferenceError,
        UnreachableError,
    )
    from totalanvi.serving.reference import load_reference

telemetry.tell_nobody()

__all__ = [
    "AccessError",
    "AlignmentError",
    "BundleError",
    "BusyError",
    "CountsError",
    "DeadlineError",
    "DeviceError",
    "EndpointError",
    "FaultError",
    "HubError",
    "MediaTypeError",
    "NotReadyError",
    "OutOfTimeError",
    "OutputError",
    "QueryError",
    "QuotaError",
    "ReferenceInfo",
    "ServingError",
    "SettingsError",
    "StaleFeaturesError",
    "TooLargeError",
    "UnknownReferenceError",
    "UnreachableError",
    "load_reference",
]

_MODULES = {"load_reference": "reference", "ReferenceInfo": "bundles.info"}
"""Where a name lives; the others are errors."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*__all__]
