"""Mapping a file of cells with the toy reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.mapping.mapping import map_file
from totalanvi.serving.outputs.map_summary import MapSummary

__all__ = ["PLUG_IN", "map_to"]

PLUG_IN = MapOptions(samples=1)
"""Posterior means, which are the cheapest."""


def map_to(reference: LocalReference, query: Path, output: Path | str, **arguments: Any) -> MapSummary:
    """Map a file into another, with `PLUG_IN` where no options are given."""
    return map_file(lambda: reference, query, str(output), **({"options": PLUG_IN} | arguments))
