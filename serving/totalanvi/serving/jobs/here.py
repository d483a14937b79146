"""A job in this process: one query after another, on all of its cores or on its device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.outcome import QueryOutcome
from totalanvi.serving.jobs.worker import Setting, Worker

__all__ = ["map_here"]


def map_here(setting: Setting, queries: Mapping[str, Listed]) -> Iterator[QueryOutcome]:
    """Map queries.

    Parameters
    ----------
    setting
        What the worker is told.
    queries
        By name.

    Yields
    ------
    QueryOutcome
        As soon as a query is done, or has failed.

    Raises
    ------
    ServingError
        When no other query could be mapped either, see `totalanvi.serving.jobs.ended.ends_a_job`.
    """
    with Worker(setting) as worker:
        for name, query in queries.items():
            yield worker.whole(name, query)
