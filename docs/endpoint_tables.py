"""What an endpoint can be told, and what it tells, as Markdown tables: read from the code that does so."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from sphinx.pycode import ModuleAnalyzer

from totalanvi.serving.endpoint.metrics import Metrics
from totalanvi.serving.wire.limits import Limits, variable

__all__ = ["write_limits_table", "write_metrics_table"]


def write_limits_table(file: Path) -> None:
    """Write a row for each limit: its variable, its default, and the text below its field.

    Parameters
    ----------
    file
        The Markdown file to write.
    """
    texts = ModuleAnalyzer.for_module(Limits.__module__).find_attr_docs()
    rows = [
        f"| `{variable(name)}` | {field.default:,} | {' '.join(texts[Limits.__name__, name]).strip()} |"
        for name, field in Limits.model_fields.items()
    ]
    file.write_text("\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n", encoding="utf-8")


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
