"""What is kept of the speed of mapping files, how it is shown, and when it has become worse."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import results
import speed_inputs

__all__ = ["keep", "require_no_worse", "table"]

RESULT = results.RESULTS / "map_scale.json"
AT_LEAST, AIM = 0.6, 0.9
MOST_BYTES, AIM_BYTES = 1_500_000_000, 800_000_000
PACKAGES = ("totalanvi", "numpy", "scipy", "h5py", "zarr", "anndata", "pyarrow")

Figures = dict[str, dict[str, Any]]
"""What was measured, by the name of the work."""


def keep(case: str, found: Figures, how: dict[str, Any]) -> None:
    """Put figures in the place of those that are on record for the same works on the same kind of file."""
    known = _known()
    known[case] = {
        "genes": speed_inputs.N_GENES,
        "non_zero": speed_inputs.NON_ZERO,
        "machine": results.machine(),
        "versions": {name: version(name) for name in PACKAGES},
        **how,
        "works": known.get(case, {}).get("works", {}) | found,
    }
    RESULT.write_text(json.dumps(known, indent=2) + "\n")


def table(case: str, found: Figures, titles: dict[str, str]) -> str:
    """Show figures, one line a work."""
    lines = [
        f"| {case} | cells | cells/s | engine, cells/s | share (at least {AT_LEAST:.0%}, aim {AIM:.0%}) "
        "| µs of a core per cell | engine's | share "
        f"| peak memory (at most {MOST_BYTES / 1e6:,.0f} MB, aim {AIM_BYTES / 1e6:,.0f}) | of few cells |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        cells = [
            titles[name],
            f"{row['cells']:,}",
            f"{row['cells_per_second']:,}",
            f"{row['engine_cells_per_second']:,}",
            f"{row['share']:.0%}",
            f"{row['processor_microseconds']:.1f}",
            f"{row['engine_processor_microseconds']:.1f}",
            f"{row['processor_share']:.0%}",
            f"{row['peak_bytes'] / 1e6:,.0f} MB",
            f"{row['peak_bytes_for_few'] / 1e6:,.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def require_no_worse(case: str, found: Figures) -> None:
    """Compare shares of processor time, which other work disturbs least, and memory with those on record.

    Raises
    ------
    SystemExit
        When a share has fallen, or memory has grown, by a fifth.
    """
    known = _known().get(case, {}).get("works", {})
    worse = []
    for name in found.keys() & known.keys():
        before, now = known[name], found[name]
        if now["processor_share"] < 0.8 * before["processor_share"]:
            worse.append(f"{name}: share {before['processor_share']:.2f} → {now['processor_share']:.2f}")
        if now["peak_bytes"] > 1.2 * before["peak_bytes"]:
            worse.append(f"{name}: memory {before['peak_bytes'] / 1e6:,.0f} → {now['peak_bytes'] / 1e6:,.0f} MB")
    if worse:
        raise SystemExit(f"Expected shares and memory to be within a fifth of those on record, found {worse}.")


def _known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    return known
