"""The endpoint's metrics as a Markdown table, as the endpoint itself describes them."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from totalanvi.serving.endpoint.metrics import Metrics

__all__ = ["write_metrics_table"]


def write_metrics_table(file: Path) -> None:
    """Write a row for each family of metrics that a new endpoint exposes.

    Parameters
    ----------
    file
        The Markdown file to write.
    """
    text = Metrics(queued=lambda: 0).exposition().decode()
    families = sorted(text_string_to_metric_families(text), key=lambda family: family.name)
    # A counter's values stand under its name with _total, and when each began to count under _created.
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in families
        if not family.name.endswith("_created")
    ]
    file.write_text("\n".join(["| metric | kind | meaning |", "|---|---|---|", *rows]) + "\n", encoding="utf-8")
