"""What ``totalanvi map`` does with many queries: judge what was asked for, map it, tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import typer

from totalanvi.machine.still_going import still_going
from totalanvi.serving.alignment.feature_map import read_feature_map
from totalanvi.serving.errors import OutputError, QueryError
from totalanvi.serving.jobs.here import map_here
from totalanvi.serving.jobs.how import DEFAULT_PART_CELLS, How
from totalanvi.serving.jobs.job import Engine, map_job
from totalanvi.serving.jobs.listed import holds_queries, is_several
from totalanvi.serving.jobs.outcome import QueryOutcome, job_lines
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.outputs.output import is_folder_output
from totalanvi.serving.reference import is_url

__all__ = ["EXIT_SOME_FAILED", "JobRequest", "run_job"]

EXIT_SOME_FAILED = 3
"""Some queries could not be mapped; the others are done."""


@dataclass(frozen=True)
class JobRequest:
    """What the command line was asked for, as far as it is about many queries.

    Parameters
    ----------
    reference, queries
        See `totalanvi.serving.jobs.job.map_job`.
    output
        Where results go; None where nothing was said.
    resume, overwrite
        A job's folder to go on with, or whether one is replaced.
    report, feature_map
        See `totalanvi.serving.mapping.mapping.map_file`.
    engine, workers, cluster
        What the job runs on; a cluster is one that was asked for.
    deadline
        Seconds for all of it at an endpoint.
    part_cells, copies
        See `totalanvi.serving.jobs.how.How`.

    Raises
    ------
    QueryError
        When something is asked for that nothing would come of.
    """

    reference: str
    queries: Sequence[str]
    output: str | None = None
    resume: Path | None = None
    overwrite: bool = False
    report: Path | None = None
    feature_map: Path | None = None
    engine: Literal["local", "ray"] | None = None
    workers: int | None = None
    cluster: str | None = None
    deadline: float | None = None
    part_cells: int | None = None
    copies: bool = False

    def __post_init__(self) -> None:
        if self.engine != "ray":
            for option, value in (("--workers", self.workers), ("--cluster", self.cluster)):
                if value is not None:
                    raise QueryError(
                        f"Expected {option} for a job on Ray; found it for one in this process, which uses all cores. "
                        f"Add --engine ray, or leave it out."
                    )
        if self.deadline is not None and not self.deadline > 0:
            raise QueryError(f"Expected a --deadline of more than 0 seconds; found {self.deadline:g}. Allow more.")
        if is_url(self.reference):
            return
        if self.deadline is not None:
            raise QueryError(
                f"Expected the URL of an endpoint with --deadline; found {self.reference!r}, to which cells are mapped "
                f"in this process. Leave the option out."
            )
        if self.resume is not None and not self.is_job:
            raise QueryError(
                f"Expected the URL of an endpoint with --resume for one query; found {self.reference!r}. Leave the "
                f"option out, or map as a job, which can always be gone on with (-o FOLDER/)."
            )

    @cached_property
    def is_job(self) -> bool:
        """Whether this is a job: several queries, or one of which something is asked that only a job can do."""
        if self.engine is not None or self.part_cells is not None or self.copies or len(self.queries) > 1:
            return True
        if self.output is None:
            return self.resume is not None
        word = self.queries[0]
        # A folder that holds no query is refused as such where a file is to be written.
        return is_several(word) and (is_folder_output(self.output) or holds_queries(word) or not Path(word).is_dir())

    def folder(self) -> Path:
        """Return the job's folder.

        Raises
        ------
        OutputError
            When none was named, or two, or it is to be gone on with and replaced as well.
        """
        if self.output is not None and not is_folder_output(self.output):
            raise OutputError(
                f"Expected a folder for the results of several queries, parts or addresses; found the name "
                f"of a file, {self.output!r}. End its name in a slash (-o {Path(self.output).with_suffix('')}/)."
            )
        named = {Path(name).absolute(): Path(name) for name in (self.output, self.resume) if name is not None}
        if len(named) != 1:
            found = " and ".join(repr(str(path)) for path in named.values()) or "none"
            raise OutputError(
                f"Expected one folder for a job, named with -o where it begins and with --resume where it goes on; "
                f"found {found}. Name one."
            )
        if self.resume is not None and self.overwrite:
            raise OutputError(
                "Expected a job to be gone on with (--resume) or replaced (--overwrite); found both. Choose one."
            )
        return next(iter(named.values()))


def run_job(
    asked: JobRequest,
    options: MapOptions,
    proteins: str | None,
    layer: str | None,
    gene_column: str | None,
    batch_size: int,
) -> None:
    """Map many queries, and tell of each.

    Raises
    ------
    ServingError
        See `totalanvi.serving.jobs.job.map_job`.
    typer.Exit
        With `EXIT_SOME_FAILED` when that is so.
    """
    if asked.report is not None:
        raise QueryError(
            "Expected no --report for several queries; found one. Write it of each afterwards (`totalanvi report "
            "FOLDER/QUERY -o report.html`)."
        )
    how = How(
        options=options,
        proteins=proteins,
        layer=layer,
        gene_column=gene_column,
        meanings={} if asked.feature_map is None else read_feature_map(asked.feature_map),
        batch_size=batch_size,
        part_cells=DEFAULT_PART_CELLS if asked.part_cells is None else asked.part_cells,
        copies=asked.copies,
    )
    folder = asked.folder()
    start: Literal["new", "resume", "overwrite"] = "new"
    if asked.resume is not None or asked.overwrite:
        start = "overwrite" if asked.overwrite else "resume"
    told: list[QueryOutcome] = []

    def tell(outcome: QueryOutcome) -> None:
        told.append(outcome)
        _tell(outcome)

    with still_going(lambda: f"Mapping queries, {len(told):,} done or failed", unless_terminal=True):
        summary = map_job(
            asked.reference, asked.queries, folder, how, start, _engine(asked), tell, deadline=asked.deadline
        )
    for line in job_lines(summary, folder):
        typer.echo(line)
    if summary.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _engine(asked: JobRequest) -> Engine:
    if asked.engine == "ray":
        from totalanvi.serving.jobs.on_ray import RayEngine

        return RayEngine(asked.workers, asked.cluster)
    return map_here


def _tell(outcome: QueryOutcome) -> None:
    if outcome.status == "failed":
        typer.echo(f"Failed: {outcome.query} ({outcome.address}): {outcome.error}", err=True)
        return
    for message in outcome.messages:
        typer.echo(f"Warning: {outcome.query}: {message}", err=True)
    for note in outcome.notes:
        typer.echo(f"Note: {outcome.query}: {note}", err=True)
    before = f", {outcome.parts_before:,} done by an earlier run" if outcome.parts_before else ""
    parts = "1 part" if outcome.parts == 1 else f"{outcome.parts:,} parts"
    typer.echo(f"{outcome.query}: {outcome.n_cells:,} cells in {parts}{before}")
