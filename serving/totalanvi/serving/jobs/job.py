"""Map many queries as one job, which any run may go on with where another was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.client.patience import Deadline
from totalanvi.serving.errors import OutputError, ServingError
from totalanvi.serving.jobs.ended import ended, ends_a_job
from totalanvi.serving.jobs.folder import SUMMARY, opened_job, require_folder
from totalanvi.serving.jobs.here import map_here
from totalanvi.serving.jobs.how import How
from totalanvi.serving.jobs.listed import Listed, listed_queries
from totalanvi.serving.jobs.naming import names_of
from totalanvi.serving.jobs.outcome import JobSummary, QueryOutcome
from totalanvi.serving.jobs.records import JobRecord
from totalanvi.serving.jobs.worker import Setting
from totalanvi.serving.reference import find_bundle, is_url, open_endpoint

__all__ = ["Engine", "map_job"]

Engine: TypeAlias = Callable[[Setting, Mapping[str, Listed]], Iterator[QueryOutcome]]
"""Maps queries by name with workers, wherever these are, and tells of each when it is done."""


def map_job(
    reference: str,
    queries: Sequence[str],
    folder: Path,
    how: How | None = None,
    start: Literal["new", "resume", "overwrite"] = "new",
    engine: Engine = map_here,
    told: Callable[[QueryOutcome], None] = lambda outcome: None,
    deadline: float | None = None,
) -> JobSummary:
    """Map queries into a folder, range by range, and keep account of what is done.

    Parameters
    ----------
    reference
        See `totalanvi.serving.reference.load_reference`.
    queries
        See `totalanvi.serving.jobs.listed.listed_queries`.
    folder
        Where results and ledger go, see `totalanvi.serving.jobs.ledger`.
    how
        How queries are mapped; None for the defaults.
    start
        Whether the folder has to be new, or a job that is there is gone on with or replaced. ``"resume"`` begins where
        nothing is yet.
    engine
        What maps: this process, or Ray (`totalanvi.serving.jobs.on_ray.RayEngine`).
    told
        Is told of each query that is done, or has failed.
    deadline
        Seconds for the job as a whole at an endpoint; None for any time.

    Returns
    -------
    JobSummary
        Which is in the folder as well. A query that fails does not keep others from being mapped.

    Raises
    ------
    ServingError
        When no query can be mapped: the reference, the folder or the list of queries is not what it should be, there
        is no room left, the endpoint has gone, does not answer in time, lets this key do no more or has replaced the
        reference, or the time is over. What is done is kept.

    Examples
    --------
    >>> map_job("bundle/", ["runs/*.h5ad"], Path("scored"), start="resume").failed  # doctest: +SKIP
    0
    """
    how, began = how or How(), time.perf_counter()
    resume, overwrite = start == "resume", start == "overwrite"
    require_folder(folder, resume, overwrite)
    listed = listed_queries(queries)
    _require_outside(folder, listed)
    names_of(listed, {})  # names that cannot be are told before anything is made or removed
    until = None if deadline is None else Deadline(deadline)
    job = JobRecord.of(_info(reference, until), how)
    with opened_job(folder, job, resume, overwrite) as ledger:
        known = {record.address: record.name for record in ledger.records()}
        named = names_of(listed, known)
        setting = Setting(_from_anywhere(reference), folder.absolute(), job, how, until)
        outcomes: list[QueryOutcome] = []
        try:
            for outcome in engine(setting, named):
                outcomes.append(outcome)
                told(outcome)
        except ServingError as error:
            if not ends_a_job(error):
                raise
            n_done = sum(outcome.status == "done" for outcome in outcomes)
            raise ended(error, job.reference, reference, folder, n_done, len(named)) from error
        others = len({record.name for record in ledger.records()} - set(named))
        summary = JobSummary.of(job, outcomes, others, time.perf_counter() - began)
        ledger.write(summary, folder / SUMMARY)
    return summary


def _info(reference: str, deadline: Deadline | None) -> ReferenceInfo:
    """Say which reference this is, without loading what computes it: workers do that."""
    if is_url(reference):
        return open_endpoint(reference, deadline).info()
    from totalanvi.serving.bundles.bundle import Bundle

    bundle = Bundle.open(find_bundle(reference))
    return ReferenceInfo.of(bundle.manifest, bundle.digest)


def _from_anywhere(reference: str) -> str:
    """Name a bundle so that workers find it which are in other folders; tags and URLs are the same everywhere."""
    path = Path(reference).expanduser()
    return str(path.absolute()) if path.exists() else reference


def _require_outside(folder: Path, listed: Sequence[Listed]) -> None:
    """Refuse to write into a query that is a folder, and queries among the results, which may be removed."""
    target = folder.resolve()
    for query in listed:
        place = Path(query.address).resolve()
        if place == target or place in target.parents or target in place.parents:
            raise OutputError(
                f"Expected an output other than the queries, neither in one of them nor around them; found "
                f"{str(folder)!r}. Choose another."
            )
