"""Results as Markdown tables: means over the cases and seeds of a task, a row per method."""

from __future__ import annotations

from typing import Any

import results

Figures = dict[str, Any]
MODES = {"protein": "prot", "part": "part", "rna": "RNA"}
BY_MODE = {
    ("labels", "accuracy"): "accuracy",
    ("labels", "macro_f1"): "macro-F1",
    ("labels", "log_loss"): "log-loss",
    ("labels", "ece"): "ECE",
    ("novelty", "max_probability"): "novelty AUROC by 1 − max-probability",
    ("novelty", "own"): "by its own measure",
    ("sets", "coverage"): "90 % sets, coverage",
    ("sets", "size"): "their size",
}
OF_RNA = {
    "pearson": "imputation, Pearson",
    "spearman": "imputation, Spearman",
    "coverage": "90 % intervals, coverage",
}


def table(cases: list[str], seeds: list[int], max_epochs: int, titles: dict[str, str]) -> str:
    """Tabulate one task.

    A seed counts for a method if all its cases were measured; where some of the seeds count, the row says which.
    Columns of which no method has a figure are left out.
    """
    records = {seed: [results.read(case, seed, max_epochs) for case in cases] for seed in seeds}
    rows: dict[str, dict[str, str]] = {}
    for method, title in titles.items():
        whole = [seed for seed in seeds if all(method in record for record in records[seed])]
        if whole:
            some = "" if whole == seeds else f" (seed {', '.join(map(str, whole))})"
            rows[title + some] = _row([record[method] for seed in whole for record in records[seed]])
    heads = [head for head in _row([]) if any(row[head].strip(" –/") for row in rows.values())]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {title} | " + " | ".join(row[head] for head in heads) + " |" for title, row in rows.items()]
    return "\n".join(lines)


def _row(measured: list[Figures]) -> dict[str, str]:
    modes = " / ".join(MODES.values())
    row = {
        f"{title}, {modes}": " / ".join(
            _mean([each.get(group, {}).get(mode, {}).get(figure) for each in measured]) for mode in MODES
        )
        for (group, figure), title in BY_MODE.items()
    }
    row |= {
        title: _mean([each.get("imputation", {}).get(figure) for each in measured]) for figure, title in OF_RNA.items()
    }
    return row | {"processor seconds, train / map": _seconds(measured)}


def _mean(values: list[float | None]) -> str:
    """Average over the cases that have the figure: some have no proteins, some no novel cells."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.4f}" if known else "–"


def _seconds(measured: list[Figures]) -> str:
    known = [each["processor_seconds"] for each in measured if each.get("processor_seconds")]
    if not known:
        return "–"
    mapping = [sum(s for step, s in steps.items() if step.startswith("map")) for steps in known]
    total = [sum(steps.values()) for steps in known]
    return f"{(sum(total) - sum(mapping)) / len(known):.0f} / {sum(mapping) / len(known):.0f}"
