"""What a method says of the held-out cells, and what that is worth."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import metrics
from tasks import Truth

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
NOTHING: npt.NDArray[np.str_] = np.array([], dtype=str)


@dataclass(frozen=True)
class Answers:
    """One method's answers to one case, cells in the order of the query files; empty or None for what it cannot say.

    By query mode: ``probabilities`` (cells, labels); ``guesses`` (cells,), what it says if not the most probable
    label; ``novelty`` (cells,), a measure of its own; ``sets`` (cells, labels), prediction sets of 90 %. Of RNA-only
    queries: ``protein_include`` and ``protein_exclude``, counts imputed with background and without, and
    ``protein_low`` and ``protein_high``, bounds of 90 % intervals of counts (cells, proteins).
    """

    seconds: dict[str, float]
    processor_seconds: dict[str, float]
    versions: dict[str, str]
    labels: npt.NDArray[np.str_] = field(default_factory=NOTHING.copy)
    probabilities: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    guesses: dict[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    novelty: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    sets: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    protein_include: Floats | None = None
    protein_exclude: Floats | None = None
    protein_low: Floats | None = None
    protein_high: Floats | None = None

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Read what ``peers/exchange.py`` wrote."""
        with np.load(path) as stored:
            arrays = dict(stored)
        record = json.loads(str(arrays.pop("record")))

        def by_mode(prefix: str) -> dict[str, npt.NDArray[np.float64]]:
            return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}

        return cls(
            seconds=record["seconds"],
            processor_seconds=record["processor_seconds"],
            versions=record["versions"],
            labels=arrays.get("labels", NOTHING),
            probabilities=by_mode("probabilities_"),
            novelty=by_mode("novelty_"),
            protein_include=arrays.get("protein_include"),
            protein_exclude=arrays.get("protein_exclude"),
        )


def score(truth: Truth, answers: Answers) -> dict[str, Any]:
    """Turn answers into figures: of labels, novelty and sets by query mode, and of the proteins imputed from RNA.

    Labels and sets are scored on cells of the types that the reference has, novelty on all labelled cells.
    """
    labelled = truth.labels != ""
    known = labelled & ~truth.novel
    figures: dict[str, Any] = {"labels": {}, "novelty": {}, "sets": {}}
    for mode, probabilities in answers.probabilities.items():
        guess = answers.guesses.get(mode)
        figures["labels"][mode] = metrics.label_figures(
            truth.labels[known], answers.labels, probabilities[known], None if guess is None else guess[known]
        )
        if truth.novel.any():
            measures = {"max_probability": 1 - probabilities.max(axis=1), "own": answers.novelty.get(mode)}
            figures["novelty"][mode] = {
                name: metrics.auroc(novelty[labelled], truth.novel[labelled])
                for name, novelty in measures.items()
                if novelty is not None
            }
        if mode in answers.sets:
            figures["sets"][mode] = metrics.set_figures(truth.labels[known], answers.labels, answers.sets[mode][known])
    return {
        **figures,
        "imputation": _imputation(truth, answers),
        "seconds": answers.seconds,
        "processor_seconds": answers.processor_seconds,
        "versions": answers.versions,
    }


def _imputation(truth: Truth, answers: Answers) -> dict[str, Any]:
    """Correlations with what the query's run counted; coverage of what the reference's run would have."""
    if answers.protein_include is None or answers.protein_exclude is None or not truth.protein.shape[1]:
        return {}
    by_protein = {
        "pearson": metrics.protein_correlations(truth.protein, answers.protein_include),
        "spearman": metrics.protein_correlations(truth.protein, answers.protein_exclude, ranks=True),
    }
    if answers.protein_low is not None and answers.protein_high is not None:
        by_protein["coverage"] = metrics.interval_coverage(
            truth.protein_as_reference, answers.protein_low, answers.protein_high
        )
    return {
        **{figure: float(values.mean()) for figure, values in by_protein.items()},
        "proteins": {
            str(name): {figure: round(float(values[place]), 4) for figure, values in by_protein.items()}
            for place, name in enumerate(truth.protein_names)
        },
    }
