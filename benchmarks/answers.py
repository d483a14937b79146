"""What a method says of the held-out cells, and what that is worth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import metrics
from tasks import Truth


@dataclass(frozen=True)
class Answers:
    """One method's answers to one task, cells in the order of the query files.

    ``probabilities`` maps a query mode to (cells, labels); ``protein_include`` and ``protein_exclude`` are counts
    imputed from RNA (cells, proteins), with background and without, absent where the method imputes nothing.
    """

    labels: npt.NDArray[np.str_]
    probabilities: dict[str, npt.NDArray[np.float64]]
    protein_include: npt.NDArray[np.float32] | None
    protein_exclude: npt.NDArray[np.float32] | None
    seconds: dict[str, float]
    processor_seconds: dict[str, float]
    versions: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Read what ``peers/exchange.py`` wrote."""
        with np.load(path) as stored:
            record = json.loads(str(stored["record"]))
            prefix = "probabilities_"
            return cls(
                labels=stored["labels"],
                probabilities={name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)},
                protein_include=stored.get("protein_include"),
                protein_exclude=stored.get("protein_exclude"),
                seconds=record["seconds"],
                processor_seconds=record.get("processor_seconds", {}),
                versions=record["versions"],
            )


def score(truth: Truth, answers: Answers) -> dict[str, Any]:
    """Turn answers into figures: per query mode those of the labels, and those of the proteins imputed from RNA."""
    figures: dict[str, Any] = {
        "labels": {
            mode: metrics.label_figures(truth.labels, answers.labels, probabilities)
            for mode, probabilities in answers.probabilities.items()
        }
    }
    include, exclude = answers.protein_include, answers.protein_exclude
    if include is not None and exclude is not None and truth.protein.shape[1]:
        pearson = metrics.protein_correlations(truth.protein, include)
        spearman = metrics.protein_correlations(truth.protein, exclude, ranks=True)
        figures["imputation"] = {
            "pearson": float(pearson.mean()),
            "spearman": float(spearman.mean()),
            "proteins": {
                str(name): {"pearson": float(first), "spearman": float(second)}
                for name, first, second in zip(truth.protein_names, pearson, spearman, strict=True)
            },
        }
    return {
        **figures,
        "seconds": answers.seconds,
        "processor_seconds": answers.processor_seconds,
        "versions": answers.versions,
    }
