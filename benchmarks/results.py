"""Results as JSON, one file per task and seed, and as Markdown tables, averaged over seeds."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PRODUCT = "totalanvi"
MODES = ("protein", "rna")
LABEL_FIGURES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "log_loss": "log-loss", "ece": "ECE"}
IMPUTATION_FIGURES = {"pearson": "Pearson", "spearman": "Spearman"}


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    models = []
    if (cpu_info := Path("/proc/cpuinfo")).exists():
        models = [line.split(":", 1)[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def path_of(task: str, seed: int, max_epochs: int) -> Path:
    """Where the results of one task and seed lie."""
    return RESULTS / f"{task}-seed{seed}-epochs{max_epochs}.json"


def update(task: str, seed: int, max_epochs: int, threads: int, methods: dict[str, dict[str, Any]]) -> Path:
    """Write the figures of some methods beside those of others that were measured before."""
    path = path_of(task, seed, max_epochs)
    record = json.loads(path.read_text()) if path.exists() else {"methods": {}}
    measured = {name: {**figures, "machine": {**machine(), "threads": threads}} for name, figures in methods.items()}
    record = {"task": task, "seed": seed, "max_epochs": max_epochs, "methods": {**record["methods"], **measured}}
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(path)
    return path


def table(records: list[dict[str, Any]], titles: dict[str, str]) -> str:
    """Tabulate the records of one task: a row per method, each figure ``with proteins / RNA only``.

    Figures are means over the records (seeds); a method counts only where every record has it.
    """
    heads = [f"{title}, prot / RNA" for title in LABEL_FIGURES.values()]
    heads += [f"imputation, {title}" for title in IMPUTATION_FIGURES.values()] + ["processor seconds, train / map"]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, title in titles.items():
        measured = [record["methods"][name] for record in records if name in record["methods"]]
        if len(measured) == len(records):
            cells = [_pair(measured, figure) for figure in LABEL_FIGURES]
            cells += [_mean([m.get("imputation", {}).get(figure) for m in measured]) for figure in IMPUTATION_FIGURES]
            lines.append(f"| {title} | " + " | ".join([*cells, _seconds(measured)]) + " |")
    return "\n".join(lines)


def _pair(measured: list[dict[str, Any]], figure: str) -> str:
    return " / ".join(_mean([m["labels"].get(mode, {}).get(figure) for m in measured]) for mode in MODES)


def _seconds(measured: list[dict[str, Any]]) -> str:
    known = [m["processor_seconds"] for m in measured if m.get("processor_seconds")]
    if not known:
        return "–"
    mapping = [sum(s for step, s in steps.items() if step.startswith("map")) for steps in known]
    total = [sum(steps.values()) for steps in known]
    return f"{(sum(total) - sum(mapping)) / len(known):.0f} / {sum(mapping) / len(known):.0f}"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.4f}" if known and len(known) == len(values) else "–"
