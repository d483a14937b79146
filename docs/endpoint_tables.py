"""What an endpoint can be told, and what it tells, as Markdown tables: read from the code that does so."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from sphinx.pycode import ModuleAnalyzer

from totalanvi.serving.endpoint.catalogue import Catalogue
from totalanvi.serving.endpoint.metrics import Metrics
from totalanvi.serving.endpoint.references import References
from totalanvi.serving.endpoint.settings import Settings, setting_names
from totalanvi.serving.endpoint.work_queue import WorkQueue
from totalanvi.serving.wire.limits import Limits, variable

__all__ = ["write_metrics_table", "write_settings_table"]


def write_settings_table(file: Path) -> None:
    """Write a row for each setting: its variable, its default, and the text below its field.

    Parameters
    ----------
    file
        The Markdown file to write.
    """
    rows = []
    for model in (Settings, Limits):
        texts = ModuleAnalyzer.for_module(model.__module__).find_attr_docs()
        for name, field in model.model_fields.items():
            if name in setting_names():
                meaning = " ".join(texts[model.__name__, name]).strip()
                rows.append(f"| `{variable(name)}` | {_default(field.default)} | {meaning} |")
    file.write_text("\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n", encoding="utf-8")


def _default(value: object) -> str:
    if value in (None, ()):
        return ""
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def write_metrics_table(file: Path) -> None:
    """Write a row for each family of metrics that a new endpoint exposes.

    Parameters
    ----------
    file
        The Markdown file to write.
    """
    text = Metrics(WorkQueue(workers=1, waiting=0), References(Catalogue())).exposition().decode()
    families = sorted(text_string_to_metric_families(text), key=lambda family: family.name)
    # A counter's values stand under its name with _total, and when each began to count under _created.
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in families
        if not family.name.endswith("_created")
    ]
    file.write_text("\n".join(["| metric | kind | meaning |", "|---|---|---|", *rows]) + "\n", encoding="utf-8")
