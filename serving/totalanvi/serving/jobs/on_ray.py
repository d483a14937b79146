"""A job on Ray: each worker is an actor with an open reference, and takes one range of cells after another.

Ray starts the actors where there is room, starts them again where one is lost, and gives a lost task to them once more.
Here it is only said which task is next. Nothing but entries of the ledger travels between machines: every worker reads
queries and writes results itself, so all of them must see the same files.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from totalanvi.serving.errors import DeviceError, QueryError
from totalanvi.serving.jobs.ended import ends_a_job
from totalanvi.serving.jobs.listed import Listed
from totalanvi.serving.jobs.outcome import QueryOutcome
from totalanvi.serving.jobs.ray_session import connected_ray
from totalanvi.serving.jobs.records import PartRecord, QueryRecord
from totalanvi.serving.jobs.remote import is_remote, shown
from totalanvi.serving.jobs.worker import Plan, Setting, Worker
from totalanvi.serving.reference import is_url

__all__ = ["RayEngine", "RayWorker", "Share", "share_of"]

_CORES = 4
"""Cores of a worker, where there is no GPU: with more, reading and writing leave some of them idle."""

_ATTEMPTS = 3
"""How often a task is given out again whose worker was lost: a query that ends every worker must not go on for ever."""


class RayEngine:
    """Maps the queries of a job on Ray; see `totalanvi.serving.jobs.job.map_job`.

    Parameters
    ----------
    workers
        How many; None for one on each GPU, or else for every four cores.
    cluster
        See `totalanvi.serving.jobs.ray_session.connected_ray`.

    Raises
    ------
    ModuleNotFoundError
        When Ray is not installed.

    Examples
    --------
    >>> map_job("bundle/", ["runs/"], Path("scored"), engine=RayEngine(workers=2)).failed  # doctest: +SKIP
    0
    """

    def __init__(self, workers: int | None = None, cluster: str | None = None) -> None:
        if find_spec("ray") is None:
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        self._workers = workers
        self._cluster = cluster

    def __call__(self, setting: Setting, queries: Mapping[str, Listed]) -> Iterator[QueryOutcome]:
        """Map queries; yields what became of each as soon as it is known.

        Raises
        ------
        SettingsError
            When there is no cluster at the address.
        ServingError
            When no other query could be mapped either, see `totalanvi.serving.jobs.ended.ends_a_job`.
        """
        with connected_ray(self._cluster) as ray:
            here = ray.cluster_resources()
            # A cluster that grows as it is asked may have no core yet.
            share = share_of(here.get("CPU", 1), 0 if is_url(setting.reference) else here.get("GPU", 0), self._workers)
            actor = ray.remote(RayWorker).options(
                num_cpus=share.cores, num_gpus=share.gpus, max_restarts=-1, max_task_retries=_ATTEMPTS
            )
            actors = [actor.remote(setting, share.threads) for _ in range(share.workers)]
            yield from _mapped(ray, actors, queries)


class RayWorker(Worker):
    """A worker whose process ends with its device: what CUDA lost, no process gets back, but its successor may."""

    def score(self, record: QueryRecord, query: Listed, rows: range) -> PartRecord:
        """Map a range of a query; where the device fails, Ray gives it out again."""
        try:
            return super().score(record, query, rows)
        except DeviceError:
            os._exit(1)


@dataclass(frozen=True)
class Share:
    """How many workers there are, and what each of them has.

    Parameters
    ----------
    workers
        How many.
    cores, gpus
        What each occupies.
    """

    workers: int
    cores: float
    gpus: int

    @property
    def threads(self) -> int:
        """Cores that a worker computes with."""
        return max(1, int(self.cores))


def share_of(cores: float, gpus: float, workers: int | None) -> Share:
    """Divide what there is among workers.

    Parameters
    ----------
    cores, gpus
        Of the machine, or of all machines together.
    workers
        How many; None lets the machine decide.

    Examples
    --------
    >>> share_of(cores=32, gpus=0, workers=None), share_of(cores=32, gpus=2, workers=None).cores
    (Share(workers=8, cores=4, gpus=0), 4)
    """
    if workers is None:
        workers = max(1, int(gpus or cores // _CORES))
    each = min(cores // workers, _CORES) or cores / workers
    return Share(workers, each, 1 if gpus >= workers else 0)


@dataclass(frozen=True)
class _Task:
    """What a worker is asked to do: a method of `Worker`, and with what."""

    name: str
    query: Listed
    method: str
    arguments: tuple[Any, ...]


@dataclass
class _Account:
    """What of a query is planned, and what is done."""

    plan: Plan
    made: list[PartRecord] = field(default_factory=list)

    def outcome(self) -> QueryOutcome | None:
        """Say what became of the query; None while there is work left."""
        if len(self.made) < len(self.plan.left):
            return None
        return self.plan.outcome(self.made)


def _mapped(ray: Any, actors: list[Any], queries: Mapping[str, Listed]) -> Iterator[QueryOutcome]:
    waiting = deque(_first(name, query) for name, query in queries.items())
    idle, running = deque(actors), dict[Any, tuple[Any, _Task]]()
    accounts: dict[str, _Account] = {}
    over: set[str] = set()
    while waiting or running:
        while waiting and idle:
            actor, task = idle.popleft(), waiting.popleft()
            running[getattr(actor, task.method).remote(*task.arguments)] = actor, task
        (finished,), _ = ray.wait(list(running))
        actor, task = running.pop(finished)
        idle.append(actor)
        if task.name in over:
            continue
        try:
            found = _result(ray, finished)
        except Exception as error:
            if ends_a_job(error):
                raise
            outcome: QueryOutcome | None = QueryOutcome.failed(task.name, shown(task.query.address), error)
            waiting = deque(other for other in waiting if other.name != task.name)
        else:
            if isinstance(found, Plan):
                accounts[task.name] = _Account(found)
                waiting.extendleft(reversed(_ranges(task, found)))
            elif isinstance(found, PartRecord):
                accounts[task.name].made.append(found)
            outcome = found if isinstance(found, QueryOutcome) else accounts[task.name].outcome()
        if outcome is not None:
            over.add(task.name)
            yield outcome


def _first(name: str, query: Listed) -> _Task:
    """Begin a query: one from elsewhere is fetched, and mapped whole, by one worker; another is divided among them."""
    return _Task(name, query, "whole" if is_remote(query.address) else "plan", (name, query))


def _ranges(task: _Task, plan: Plan) -> list[_Task]:
    return [_Task(task.name, task.query, "score", (plan.record, task.query, rows)) for rows in plan.left]


def _result(ray: Any, finished: Any) -> Any:
    """Return what a task gave, or raise what it raised."""
    try:
        return ray.get(finished)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from error
    except ray.exceptions.RayError as error:
        raise QueryError(
            f"Expected a worker to map this; found that it was lost {_ATTEMPTS + 1} times ({type(error).__name__}). "
            f"See if it had too little memory, take fewer cells at a time (--batch-size), or map this query by itself."
        ) from error
