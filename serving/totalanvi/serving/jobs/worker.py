"""A worker of a job: one open reference, which maps queries range by range, here or in a process elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from totalanvi.serving.bundles.files import hash_file
from totalanvi.serving.client.patience import Deadline
from totalanvi.serving.errors import BundleError, StaleFeaturesError
from totalanvi.serving.features import Reference
from totalanvi.serving.jobs.ended import ends_a_job
from totalanvi.serving.jobs.how import How
from totalanvi.serving.jobs.identity import identity_of
from totalanvi.serving.jobs.ledger import Ledger
from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.opened import OpenQuery, open_listed
from totalanvi.serving.jobs.outcome import QueryOutcome
from totalanvi.serving.jobs.records import InputIdentity, JobRecord, PartRecord, QueryRecord, digest_of
from totalanvi.serving.jobs.remote import shown
from totalanvi.serving.mapping.beforehand import counts_notes, measured_doubtful, messages_before
from totalanvi.serving.mapping.cell_counts import CellCounts
from totalanvi.serving.mapping.scorer import score_blocks
from totalanvi.serving.outputs.output import Format, OutputPlan
from totalanvi.serving.outputs.writers import open_writer
from totalanvi.serving.reference import find_bundle, is_url, load_reference, open_endpoint

__all__ = ["Plan", "Setting", "Worker"]


@dataclass(frozen=True)
class Setting:
    """What every worker of a job is told.

    Parameters
    ----------
    reference
        See `totalanvi.serving.reference.load_reference`.
    folder
        The job's folder, absolute.
    job
        The job, as its ledger has it.
    how
        How queries are mapped.
    deadline
        When an endpoint has to be done with all of it; None for any time.
    """

    reference: str
    folder: Path
    job: JobRecord
    how: How
    deadline: Deadline | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done of a query.

    Parameters
    ----------
    record
        The query.
    done
        Entries of the ranges that are done.
    left
        Rows of those that are not.
    false_positive_rate
        See `totalanvi.serving.mapped.MapOptions`.
    """

    record: QueryRecord
    done: tuple[PartRecord, ...]
    left: tuple[range, ...]
    false_positive_rate: float

    def outcome(self, made: Sequence[PartRecord]) -> QueryOutcome:
        """Add up the query once entries of what was left are made."""
        return QueryOutcome.done(self.record, [*self.done, *made], len(self.done), self.false_positive_rate)


class Worker:
    """Maps queries of a job, range by range; one query is open at a time, and the reference from the first on.

    Parameters
    ----------
    setting
        See there.
    threads
        Cores to compute with; None for all.

    Examples
    --------
    >>> with Worker(setting) as worker:  # doctest: +SKIP
    ...     worker.whole("donor1", Listed("/data/donor1.h5ad")).status
    'done'
    """

    def __init__(self, setting: Setting, threads: int | None = None) -> None:
        self._setting = setting
        self._threads = threads
        self._how = setting.how
        self._ledger = Ledger(setting.folder, setting.job)
        self._open: OpenQuery | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the query that is open, if any."""
        if self._open is not None:
            self._open.stack.close()
        self._open = None

    @cached_property
    def _reference(self) -> Reference:
        reference = _opened_reference(self._setting, self._threads)
        found, wanted = reference.info().digest, self._setting.job.reference.digest
        if found != wanted:
            kind, cure = (
                (StaleFeaturesError, "map all queries again")
                if is_url(self._setting.reference)
                else (BundleError, "let every machine have the same")
            )
            raise kind(
                f"{self._setting.reference}: expected the reference {wanted[:12]}… of the job, found {found[:12]}…; "
                f"{cure}."
            )
        return reference

    def whole(self, name: str, query: Listed) -> QueryOutcome:
        """Map what is left of a query.

        Raises
        ------
        ServingError
            One that `ends_a_job`, when no other query could be mapped either; whatever else goes wrong is the query's
            outcome.
        """
        try:
            plan = self.plan(name, query)
            made = [self.score(plan.record, query, rows) for rows in plan.left]
        except Exception as error:
            if ends_a_job(error):
                raise
            return QueryOutcome.failed(name, shown(query.address), error)
        return plan.outcome(made)

    def plan(self, name: str, query: Listed) -> Plan:
        """Find out what of a query is done already; a query of which all is done is not even opened.

        Raises
        ------
        ServingError
            When the query cannot be mapped; one that `ends_a_job` when none can, as the reference cannot be opened, or
            is another than the job's.
        """
        identity = identity_of(query.address)
        record = self._ledger.query(name)
        if record is None or record.input != identity:
            # What was made of another file, or of this one before it changed, goes first, whatever comes of it now.
            self._ledger.forget(name)
            record = self._record(name, query, identity)
            self._ledger.keep_query(record)
        ranges, done = self._how.ranges(record.n_cells), self._ledger.parts(record)
        left = tuple(rows for rows in ranges if rows not in done)
        done_before = tuple(done[rows] for rows in ranges if rows in done)
        return Plan(record, done_before, left, self._how.options.false_positive_rate)

    def score(self, record: QueryRecord, query: Listed, rows: range) -> PartRecord:
        """Map a range of a query, put its results where they belong, and enter it.

        Raises
        ------
        ServingError
            When that fails; what is there already stays.
        """
        opened = self._opened(record.name, query, record.input)
        place = self._how.ranges(record.n_cells).index(rows)
        plan_format, file = _place(record, self._how, place)
        counts = CellCounts(self._reference.features, self._how.options)
        with self._ledger.work() as room:
            plan = OutputPlan(room / Path(file).name, plan_format)
            source, aligner = opened.source, opened.aligner
            with (
                open_writer(
                    plan, opened.path, source.rna_modality, self._reference.features, opened.provenance
                ) as writer,
                closing(
                    score_blocks(self._reference, source, aligner, self._how.options, self._how.batch_size, rows)
                ) as blocks,
            ):
                for block in blocks:
                    writer.write(block.cell_ids, block.mapped, block.n_with_proteins)
                    counts.add(block)
            made = hash_file(plan.path)
            part = PartRecord(
                query=record.name,
                rows=(rows.start, rows.stop),
                job=self._ledger.job,
                input=digest_of(record.input),
                file=file,
                bytes=made.bytes,
                sha256=made.sha256,
                n_with_proteins=counts.n_with_proteins,
                labels=counts.labels(),
                n_unknown=counts.n_unknown,
            )
            self._ledger.keep_part(plan.path, place, part)
        return part

    def _record(self, name: str, query: Listed, identity: InputIdentity) -> QueryRecord:
        opened = self._opened(name, query, identity)
        source, aligner = opened.source, opened.aligner
        return QueryRecord(
            name=name,
            address=shown(query.address),
            job=self._ledger.job,
            input=identity,
            kind=source.kind,
            n_cells=len(source),
            n_without_rna=source.n_without_rna,
            doubtful=measured_doubtful(self._reference, aligner, self._how.options),
            messages=messages_before(self._reference, source, aligner, self._how.options),
            notes=[*counts_notes(source, self._how.layer), *aligner.report.notes],
        )

    def _opened(self, name: str, query: Listed, identity: InputIdentity) -> OpenQuery:
        """Open a query, or go on with the one that is open."""
        if self._open is None or (self._open.name, self._open.identity) != (name, identity):
            self.close()
            self._open = open_listed(name, query, identity, self._reference, self._how, self._ledger)
        return self._open


def _place(record: QueryRecord, how: How, place: int) -> tuple[Format, str]:
    """Say as what, and where in the job's folder, the results of a range are."""
    if not how.copies:
        return "parquet", f"{record.name}/part-{place:05d}.parquet"
    kind: Format = "h5ad" if record.kind == "anndata" else "h5mu"
    return kind, f"{record.name}/{record.name}.{kind}"


def _opened_reference(setting: Setting, threads: int | None) -> Reference:
    if is_url(setting.reference):
        return open_endpoint(setting.reference, setting.deadline)
    if threads is None:
        return load_reference(setting.reference)
    from totalanvi.serving.mapping.local import LocalReference

    return LocalReference(find_bundle(setting.reference), threads=threads)
