"""What became of each query of a job, and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from totalanvi.serving.jobs.records import JobRecord, PartRecord, QueryRecord
from totalanvi.serving.outputs.imputation_notes import few_proteins_messages
from totalanvi.serving.outputs.map_summary import mapped_line
from totalanvi.serving.outputs.novelty_notes import many_unknown_messages

__all__ = ["JobSummary", "QueryOutcome", "job_lines"]


class QueryOutcome(BaseModel):
    """What became of a query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str
    """Its name, which is that of its folder of results."""
    address: str
    status: Literal["done", "failed"]
    error: str | None = None
    n_cells: int = 0
    n_without_rna: int = 0
    n_with_proteins: int = 0
    """Cells that were mapped with proteins that were measured."""
    n_unknown: int = 0
    labels: dict[str, int] = {}
    """Number of cells of each label, most frequent first."""
    parts: int = 0
    parts_before: int = 0
    """How many of these an earlier run had done."""
    messages: list[str] = []
    notes: list[str] = []

    @classmethod
    def done(
        cls, record: QueryRecord, parts: Iterable[PartRecord], parts_before: int, false_positive_rate: float
    ) -> QueryOutcome:
        """Add up the parts of a query that is done."""
        parts = list(parts)
        n_with_proteins = sum(part.n_with_proteins for part in parts)
        n_mapped = record.n_cells - record.n_without_rna
        n_unknown = sum(part.n_unknown for part in parts)
        few = few_proteins_messages(record.doubtful, n_with_proteins, n_mapped)
        return cls(
            query=record.name,
            address=record.address,
            status="done",
            n_cells=record.n_cells,
            n_without_rna=record.n_without_rna,
            n_with_proteins=n_with_proteins,
            n_unknown=n_unknown,
            labels=_summed(part.labels for part in parts),
            parts=len(parts),
            parts_before=parts_before,
            messages=[*record.messages, *few, *many_unknown_messages(n_unknown, n_mapped, false_positive_rate)],
            notes=record.notes,
        )

    @classmethod
    def failed(cls, query: str, address: str, error: BaseException) -> QueryOutcome:
        """Say why a query has no results, or not all of them."""
        known = hasattr(error, "exit_code")
        return cls(
            query=query,
            address=address,
            status="failed",
            error=str(error) if known else f"{type(error).__name__}: {error}",
        )


class JobSummary(BaseModel):
    """What became of a job: the content of ``_summary.json``.

    Examples
    --------
    >>> JobSummary.model_validate_json(Path("scored/_summary.json").read_bytes()).failed  # doctest: +SKIP
    0
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: JobRecord
    done: int
    """Queries that are done, in this run or before."""
    failed: int
    others: int
    """Queries that an earlier run has entered in the same folder, and this one was not asked for."""
    n_cells: int
    n_without_rna: int
    n_with_proteins: int
    n_unknown: int
    labels: dict[str, int]
    seconds: float
    queries: list[QueryOutcome]

    @classmethod
    def of(cls, job: JobRecord, outcomes: Sequence[QueryOutcome], others: int, seconds: float) -> JobSummary:
        """Add up what became of the queries."""
        done = [outcome for outcome in outcomes if outcome.status == "done"]
        return cls(
            job=job,
            done=len(done),
            failed=len(outcomes) - len(done),
            others=others,
            n_cells=sum(outcome.n_cells for outcome in done),
            n_without_rna=sum(outcome.n_without_rna for outcome in done),
            n_with_proteins=sum(outcome.n_with_proteins for outcome in done),
            n_unknown=sum(outcome.n_unknown for outcome in done),
            labels=_summed(outcome.labels for outcome in done),
            seconds=round(seconds, 3),
            queries=sorted(outcomes, key=lambda outcome: outcome.query),
        )


def job_lines(summary: JobSummary, folder: Any) -> list[str]:
    """Say it in a few lines, for a terminal."""
    labels = ", ".join(f"{label} {n_cells:,}" for label, n_cells in summary.labels.items()) or "none"
    return [
        f"Queries:    {summary.done:,} done"
        + (f", {summary.failed:,} failed" if summary.failed else "")
        + (f"; {summary.others:,} more of earlier runs" if summary.others else ""),
        mapped_line(summary.n_cells, summary.n_without_rna, summary.n_with_proteins),
        f"Labels:     {labels}",
        f"Unknown:    {summary.n_unknown:,} cells",
        f"Time:       {summary.seconds:.1f} s",
        f"Output:     {folder}",
    ]


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())
