"""The ledger of a job: a small file for each range of cells that is done, beside the results.

Every file is written whole and then named, after what it speaks of, so that whatever ends a job leaves no entry without
its results. The folder's name begins with an underscore: those who read folders of tables leave it out.

::

    FOLDER/
    ├── donor1/part-00000.parquet, …        results, by query
    ├── _summary.json                       of the run that came to its end
    └── _job/
        ├── job.json                        reference and options
        ├── lock                            held by the run that works here
        ├── queries/donor1/query.json       cells of a query, and by what its file is known again
        ├── queries/donor1/00000.json       a range that is done, with the digest of its part
        └── work/                           what is being made or fetched; emptied by the next run
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from totalanvi.serving.bundles.files import hash_file
from totalanvi.serving.errors import BundleError
from totalanvi.serving.jobs.durable import put, writing_to
from totalanvi.serving.jobs.records import JobRecord, PartRecord, QueryRecord, digest_of

__all__ = ["HIDDEN", "Ledger"]

HIDDEN = "_job"
"""The ledger's folder in a job's folder."""

_Read = TypeVar("_Read", QueryRecord, PartRecord)


class Ledger:
    """The ledger of one job, and the way to its results.

    Parameters
    ----------
    folder
        The job's folder.
    job
        What the job is; entries of another count for nothing.

    Examples
    --------
    >>> ledger = Ledger(Path("scored"), JobRecord.of(reference.info(), How()))  # doctest: +SKIP
    >>> ledger.parts(ledger.query("donor1"))  # doctest: +SKIP
    """

    def __init__(self, folder: Path, job: JobRecord) -> None:
        self._folder = folder
        self._job = digest_of(job)
        self._queries = folder / HIDDEN / "queries"
        self._work = folder / HIDDEN / "work"

    @property
    def job(self) -> str:
        """Digest of the job."""
        return self._job

    def records(self) -> Iterator[QueryRecord]:
        """Give all queries that were opened, by name."""
        if self._queries.is_dir():
            for folder in sorted(self._queries.iterdir()):
                if (record := self.query(folder.name)) is not None:
                    yield record

    def query(self, name: str) -> QueryRecord | None:
        """Return what is known of a query; None where nothing is, or it cannot be read."""
        record = _read(self._queries / name / "query.json", QueryRecord)
        return record if record is not None and record.job == self._job else None

    def keep_query(self, record: QueryRecord) -> None:
        """Enter a query."""
        with writing_to(self._folder):
            (self._queries / record.name).mkdir(parents=True, exist_ok=True)
        self.write(record, self._queries / record.name / "query.json")

    def parts(self, record: QueryRecord) -> dict[range, PartRecord]:
        """Return the ranges of a query that are done and whose results are still what they were, by their rows."""
        found = (_read(file, PartRecord) for file in sorted((self._queries / record.name).glob("[0-9]*.json")))
        wanted, done = digest_of(record.input), {}
        for part in found:
            if part is not None and (part.job, part.input) == (self._job, wanted) and self._holds(part):
                done[range(*part.rows)] = part
        return done

    def keep_part(self, made: Path, place: int, part: PartRecord) -> None:
        """Put the results of a range where they belong, and then enter it.

        Parameters
        ----------
        made
            The results, in `work`.
        place
            Which of its query's ranges it is, from 0.
        part
            The entry.
        """
        with writing_to(self._folder):
            target = self._folder / part.file
            target.parent.mkdir(exist_ok=True)
            put(made, target)
        self.write(part, self._queries / part.query / f"{place:05d}.json")

    def write(self, said: BaseModel, target: Path) -> None:
        """Write a file of JSON, whole or not at all.

        Raises
        ------
        OutputError
            When there is no room.
        """
        with self.work() as room, writing_to(self._folder):
            made = room / target.name
            made.write_text(said.model_dump_json(indent=1) + "\n", encoding="utf-8")
            put(made, target)

    def forget(self, name: str) -> None:
        """Remove a query's results, and then what is entered of it."""
        with writing_to(self._folder):
            for folder in (self._folder / name, self._queries / name):
                if folder.is_dir():
                    shutil.rmtree(folder)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Give a folder for what is being made or fetched, on the disk of the results, that nobody else can look into.

        Raises
        ------
        OutputError
            When none can be made.
        """
        with writing_to(self._folder):
            self._work.mkdir(exist_ok=True)
            room = TemporaryDirectory(dir=self._work, ignore_cleanup_errors=True)
        with room as path:
            yield Path(path)

    def clear_work(self) -> None:
        """Remove what runs have left that were ended."""
        shutil.rmtree(self._work, ignore_errors=True)

    def _holds(self, part: PartRecord) -> bool:
        file = self._folder / part.file
        try:
            if not file.is_file() or file.stat().st_size != part.bytes:
                return False
            return hash_file(file).sha256 == part.sha256
        except (OSError, BundleError):
            return False


def _read(file: Path, kind: type[_Read]) -> _Read | None:
    """Read an entry; what is no longer readable is done once more."""
    try:
        return kind.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
