"""The query of a job that is open: here, or fetched from elsewhere for as long as it is."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from totalanvi.serving.alignment.align import Aligner
from totalanvi.serving.errors import QueryError
from totalanvi.serving.features import Reference
from totalanvi.serving.jobs.how import How
from totalanvi.serving.jobs.identity import identity_of
from totalanvi.serving.jobs.ledger import Ledger
from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.records import InputIdentity
from totalanvi.serving.jobs.remote import download, is_remote, shown
from totalanvi.serving.mapping.beforehand import aligner_for, provenance_of
from totalanvi.serving.queries.readers import open_query
from totalanvi.serving.queries.source import QuerySource

__all__ = ["OpenQuery", "open_listed"]


@dataclass(frozen=True)
class OpenQuery:
    """A query whose cells can be read.

    Parameters
    ----------
    name
        What its results are called.
    identity
        What it was when it was opened.
    path
        Where it is, or its copy.
    source, aligner
        Its cells, and how its features match.
    provenance
        See `totalanvi.serving.outputs.provenance.provenance`.
    stack
        Closes it, and removes the copy.
    """

    name: str
    identity: InputIdentity
    path: Path
    source: QuerySource
    aligner: Aligner
    provenance: dict[str, Any]
    stack: ExitStack


def open_listed(
    name: str, query: Listed, identity: InputIdentity, reference: Reference, how: How, ledger: Ledger
) -> OpenQuery:
    """Open a query.

    Parameters
    ----------
    name, query
        See `OpenQuery`, and where it is.
    identity
        What it has to be.
    reference, how
        What it is mapped to, and how.
    ledger
        Has a place for what is fetched.

    Raises
    ------
    ServingError
        When it has changed, or cannot be read or matched to the reference.
    """
    if (found := identity_of(query.address)) != identity:
        raise QueryError(
            f"Expected {shown(query.address)!r} as it was when it was looked at ({identity.stamp}); found that it has "
            f"changed ({found.stamp}). Go on with the job when nobody writes there."
        )
    with ExitStack() as stack:
        path = Path(query.address)
        if is_remote(query.address):
            path = download(query.address, stack.enter_context(ledger.work()))
        source = stack.enter_context(open_query(path, how.proteins, how.layer))
        aligner = aligner_for(reference, source, how.gene_column, how.meanings)
        uns = provenance_of(reference, source, aligner, how.options)
        return OpenQuery(name, identity, path, source, aligner, uns, stack.pop_all())
