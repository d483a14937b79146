"""The folder of a job: begun, gone on with, or replaced, by one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from totalanvi.serving.errors import OutputError
from totalanvi.serving.jobs.durable import writing_to
from totalanvi.serving.jobs.ledger import HIDDEN, Ledger
from totalanvi.serving.jobs.records import JobRecord
from totalanvi.serving.locks import taken_lock
from totalanvi.serving.outputs.output import require_parent

__all__ = ["SUMMARY", "opened_job", "require_folder"]

SUMMARY = "_summary.json"
"""What became of a job, in its folder; there only when a run has come to its end."""


def require_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Judge where a job is to go, before anything is read.

    Parameters
    ----------
    folder
        The job's folder, which need not be there.
    resume, overwrite
        Whether a job that is there is gone on with, or replaced.

    Raises
    ------
    OutputError
        When there is no place for it, or something else is there.
    """
    require_parent(folder, "output")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Expected a folder at {str(folder)!r}; found a file. Choose another output.")
    if (folder / HIDDEN / "job.json").exists():
        if not resume and not overwrite:
            raise OutputError(
                f"Expected an output that does not exist yet; found a job in {str(folder)!r}. Go on with it "
                f"(--resume), replace it (--overwrite), or choose another folder."
            )
        return
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name != HIDDEN) if folder.exists() else []
    if foreign:
        raise OutputError(
            f"Expected a folder that is new or empty, or holds a job; found {foreign[0]!r} in {str(folder)!r}. Choose "
            f"another folder."
        )


@contextmanager
def opened_job(folder: Path, job: JobRecord, resume: bool, overwrite: bool) -> Iterator[Ledger]:
    """Begin a job, or go on with it; meanwhile no other run can.

    Parameters
    ----------
    folder, resume, overwrite
        See `require_folder`.
    job
        What the job is.

    Raises
    ------
    OutputError
        When the folder holds a job with another reference or other options, or another run works there.
    """
    require_folder(folder, resume, overwrite)
    ledger = Ledger(folder, job)
    hidden = folder / HIDDEN
    with writing_to(folder):
        hidden.mkdir(parents=True, exist_ok=True)
        lock = taken_lock(hidden / "lock")
    if lock is None:
        raise OutputError(
            f"Expected a job that no other run works on; found one at work in {str(folder)!r}. Wait until it has ended."
        )
    try:
        if overwrite:
            _remove_results(folder, ledger)
        else:
            _require_same(folder, job)
        ledger.clear_work()
        ledger.write(job, hidden / "job.json")
        with writing_to(folder):
            (folder / SUMMARY).unlink(missing_ok=True)
        yield ledger
        ledger.clear_work()
    finally:
        os.close(lock)


def _require_same(folder: Path, job: JobRecord) -> None:
    """Refuse to go on with another job."""
    file = folder / HIDDEN / "job.json"
    if not file.exists():
        return
    try:
        earlier = JobRecord.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise OutputError(
            f"Expected the ledger of a job, as this version of totalanvi writes it; found that {str(file)!r} is none. "
            f"Choose another folder, or replace what is there (--overwrite)."
        ) from error
    if earlier == job:
        return
    if earlier.reference != job.reference:
        found, wanted = (f"{of.name} {of.version} ({of.digest[:12]}…)" for of in (earlier.reference, job.reference))
        expected, saying = f"the reference {wanted}", f"the reference {found}"
    elif earlier.software != job.software:
        expected, saying = f"totalanvi {job.software}", f"totalanvi {earlier.software}"
    else:
        # Options are called so on the command line, which most jobs come from.
        names = [
            f"--{name.replace('_', '-')}" for name in {**earlier.mapping, **job.mapping} if _differs(name, earlier, job)
        ]
        expected, saying = "the options of this run", f"others ({', '.join(names)})"
    raise OutputError(
        f"Expected the job in {str(folder)!r} to have been made with {expected}; found {saying}. Ask for the same, or "
        f"choose another folder."
    )


def _differs(name: str, earlier: JobRecord, job: JobRecord) -> bool:
    return name not in earlier.mapping or name not in job.mapping or earlier.mapping[name] != job.mapping[name]


def _remove_results(folder: Path, ledger: Ledger) -> None:
    queries = folder / HIDDEN / "queries"
    for entry in sorted(queries.iterdir()) if queries.is_dir() else ():
        ledger.forget(entry.name)
