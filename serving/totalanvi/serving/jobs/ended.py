"""What ends a job before its queries are all mapped, and what its user is told then."""

from __future__ import annotations

import copy
from pathlib import Path

from totalanvi.serving.errors import ServingError, StaleFeaturesError, UnknownReferenceError
from totalanvi.serving.jobs.records import JobReference

__all__ = ["ended", "ends_a_job"]


def ends_a_job(error: BaseException) -> bool:
    """Tell whether no other query would be spared: there is no place for results, no reference, or no endpoint to ask.

    Examples
    --------
    >>> ends_a_job(StaleFeaturesError("replaced")), ends_a_job(ValueError("not cells"))
    (True, False)
    """
    return isinstance(error, ServingError) and error.concerns_all


def ended(error: ServingError, reference: JobReference, address: str, folder: Path, done: str) -> ServingError:
    """Return the error that a job ends with: it says how to go on.

    Parameters
    ----------
    error
        What no other query would be spared.
    reference, address
        What the job maps to, and where it was.
    folder
        The job's.
    done
        How much is done, such as ``"1 of 3 queries"``.
    """
    resume = f"go on with --resume {str(folder)!r}"
    if isinstance(error, (StaleFeaturesError, UnknownReferenceError)):
        was = f"{reference.name} {reference.version} ({reference.digest[:12]}…)"
        return StaleFeaturesError(
            f"{address}: expected the reference {was} until the job's end; found that it has been replaced. What is "
            f"done ({done}) is kept: map all anew, into another folder, or {resume} once that reference is back."
        )
    said = copy.copy(error)  # with all that it carries, such as when to ask again
    said.args = (f"{error} What is done ({done}) is kept: {resume}.",)
    return said
