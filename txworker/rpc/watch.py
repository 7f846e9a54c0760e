"""Jobs on their way to one watcher, in one thread: as they stand, then each change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from txworker.catalog import Catalog
from txworker.jobs import Job, Query
from txworker.jobs.errors import InvalidRequest
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Caller

_FROM_STORE = 200
"""Jobs that are read from the store at a time."""


def watch(catalog: Catalog, caller: Caller, request: pb.WatchJobsReq) -> Iterator[Job]:
    """
    The jobs of one watcher; to one that is a thousand changes late a job is given as it stands then. With jobIDs it
    ends when all of those are done, as nothing more can come. Any thread but the reactor's.

    Raises:
        NoSuchJob: one that was named is not there.
        WorkerStopping: nothing will change any more.
        CallerGone: the watcher left.
    """
    query = Query(labels=dict(request.labels))
    if "" in request.jobIDs:
        raise InvalidRequest("jobIDs", "", "is no job's id")
    jobs = _named(catalog, caller, tuple(dict.fromkeys(request.jobIDs))) if request.jobIDs else _all(catalog, caller)
    return (job for job in jobs if query.matches(job))


def _all(catalog: Catalog, caller: Caller) -> Iterator[Job]:
    beyond = 0
    while True:
        changed = caller.call(partial(catalog.changes.since, beyond, each=beyond > 0))
        yield from _from_store(catalog, beyond, changed.in_store_upto)
        yield from changed.jobs
        beyond = changed.upto


def _from_store(catalog: Catalog, beyond: int, upto: int) -> Iterator[Job]:
    while beyond < upto:
        jobs = catalog.ended_between(beyond, upto, _FROM_STORE)
        yield from jobs
        if len(jobs) < _FROM_STORE:
            return
        beyond = jobs[-1].revision


def _named(catalog: Catalog, caller: Caller, job_ids: tuple[str, ...]) -> Iterator[Job]:
    known: dict[str, Job] = {}
    for job in [catalog.get(job_id) for job_id in job_ids]:
        known[job.id] = job
        yield job
    upto = 0
    while open_ids := {job.id: job.revision for job in known.values() if not job.done}:
        changed = caller.call(partial(catalog.changes.of, open_ids, upto))
        for job in [*changed.jobs, *map(catalog.get, changed.late)]:
            if job.revision > known[job.id].revision:
                known[job.id] = job
                yield job
        upto = changed.upto
