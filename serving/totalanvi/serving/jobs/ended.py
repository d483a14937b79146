"""What ends a job before its queries are all mapped, and what its user is told then."""

from __future__ import annotations

import copy
from pathlib import Path

from totalanvi.serving.errors import ServingError, StaleFeaturesError, UnknownReferenceError
from totalanvi.serving.jobs.records import JobReference

__all__ = ["ended", "ends_a_job"]


def ends_a_job(error: BaseException) -> bool:
    """Tell whether no other query would be spared.

    So it is where results have no place, the reference or the device is of no use, or the endpoint has gone, does not
    let this key in, or do more, has too much work, or answers too late.

    Examples
    --------
    >>> ends_a_job(StaleFeaturesError("replaced")), ends_a_job(ValueError("not cells"))
    (True, False)
    """
    return isinstance(error, ServingError) and error.concerns_all


def ended(
    error: ServingError, reference: JobReference, address: str, folder: Path, n_done: int, n_queries: int
) -> ServingError:
    """Return the error that a job ends with: it says how to go on.

    Parameters
    ----------
    error
        What no other query would be spared.
    reference, address
        What the job maps to, and where it was.
    folder
        The job's.
    n_done, n_queries
        How many queries are done, of how many.
    """
    kept, resume = f"What is done ({n_done:,} of {n_queries:,} queries) is kept", f"go on with --resume {str(folder)!r}"
    said = copy.copy(error)  # with all that it carries, such as when to ask again
    if isinstance(error, (StaleFeaturesError, UnknownReferenceError)):
        was, found = f"{reference.name} {reference.version} ({reference.digest[:12]}…)", str(error).removesuffix(".")
        said.args = (
            f"{address}: expected the reference {was} until the job's end; found that it is no longer there ({found}). "
            f"{kept}: map all anew, into another folder, or {resume} once that reference is back.",
        )
    else:
        said.args = (f"{error} {kept}: {resume}.",)
    return said
