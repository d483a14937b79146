"""What a ledger says of a job, of its queries and of each range of cells that is done: the schema of its files."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from totalanvi.serving.bundles.info import ReferenceInfo
from totalanvi.serving.jobs.how import How
from totalanvi.serving.version import software_version

__all__ = ["InputIdentity", "JobRecord", "JobReference", "PartRecord", "QueryRecord", "digest_of"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobReference(_Record):
    """Which reference a job maps to."""

    name: str
    version: str
    digest: str
    """SHA-256 of the bundle's manifest, which names all of it."""


class JobRecord(_Record):
    """What the results of a job depend on, besides its queries."""

    schema_version: Literal[1] = 1
    software: str
    """Version of totalanvi."""
    reference: JobReference
    mapping: dict[str, Any]
    """See `totalanvi.serving.jobs.how.How.as_dict`."""

    @classmethod
    def of(cls, info: ReferenceInfo, how: How) -> JobRecord:
        """Describe a job.

        Parameters
        ----------
        info
            The reference.
        how
            How queries are mapped.
        """
        reference = JobReference(name=info.name, version=info.version, digest=info.digest)
        return cls(software=software_version(), reference=reference, mapping=how.as_dict())


class InputIdentity(_Record):
    """By what a query's file is known again, without reading it.

    Examples
    --------
    >>> InputIdentity(file="donor1.h5ad", bytes=8_123_456, stamp="mtime 1764139016123456789").file
    'donor1.h5ad'
    """

    file: str
    """Its own name, without a folder."""
    bytes: int | None
    """Its size; None where a server does not say."""
    stamp: str
    """When it was changed, or a server's tag of its content; of a folder, a digest of the same of all its files."""


class QueryRecord(_Record):
    """A query that was opened: how many cells it has, and what its user should know."""

    name: str
    """Its folder of results."""
    address: str
    job: str
    """Digest of the job."""
    input: InputIdentity
    kind: Literal["anndata", "mudata"]
    n_cells: int
    n_without_rna: int
    doubtful: list[str]
    """Its proteins that RNA alone cannot predict, if any are imputed: they are in cells that lack them."""
    messages: list[str]
    notes: list[str]


class PartRecord(_Record):
    """A range of cells that is done: its rows, what they became, and what they came from."""

    query: str
    rows: tuple[int, int]
    """First cell, and the one after the last."""
    job: str
    """Digest of the job: reference, options, version."""
    input: str
    """Digest of the query's identity."""
    file: str
    """Where its results are, within the job's folder."""
    bytes: int
    sha256: str
    n_with_proteins: int
    """Cells that were mapped with proteins that were measured."""
    labels: dict[str, int]
    """Number of cells of each label."""
    n_unknown: int
    """Cells more novel than cells like the reference's are, whatever label they keep."""


def digest_of(record: JobRecord | InputIdentity) -> str:
    """Return the SHA-256 of all that a record says."""
    return hashlib.sha256(record.model_dump_json().encode()).hexdigest()
